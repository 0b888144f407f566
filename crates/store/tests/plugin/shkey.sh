#!/bin/sh
# An age plugin for tests, which keeps nothing secret: its stanza holds the file key as it is. What it does is in the
# file `mode` beside it; that it was started, by which process and with which environment, it writes down there.
here=$(dirname "$0")
mode=$(cat "$here/mode")
echo "$1" >> "$here/started"
echo $$ > "$here/pid"
env > "$here/environment"

say() { printf '%s\n' "$1" "$2"; }
# An answer's first line in $answer, its body in $body.
ask() { say "$1" "$2"; IFS= read -r answer; IFS= read -r body; }
end() { say '-> done' ''; exit 0; }

case $mode in
  refuses-to-start) exit 3 ;;
  never-reads) sleep 1000 ;;
esac

key='' ours='' identities=''
while IFS= read -r line; do
  case $line in
    '-> done') read -r _; break ;;
    '-> wrap-file-key') IFS= read -r key ;;
    '-> recipient-stanza 0 shkey'*) ours=yes; IFS= read -r key ;;
    '-> add-identity '*) identities="$identities ${line#-> add-identity }" ;;
  esac
done
echo "$identities" > "$here/identities"

case $mode in
  dies) exit 3 ;;
  hangs) sleep 1000 & echo $! > "$here/child"; wait ;;
  closes) exec >&-; sleep 1000 ;;
  nonsense) echo 'hello, I am no plugin'; sleep 1000 ;;
  endless-line) yes | tr -d '\n' ;;
  endless-talk) while :; do say '-> msg' 'aGk'; done ;;
  half-a-key) ask '-> file-key 0' 'AAAA'; end ;;
  two-stanzas) ask '-> recipient-stanza 0 shkey' "$key"; ask '-> recipient-stanza 0 shkey' "$key"; end ;;
  a-passphrase) ask '-> recipient-stanza 0 tokenkeep/argon2id AAAAAAAAAAAAAAAAAAAAAA 1048576 16 16' "$key"; end ;;
  no-answer) end ;;
  complains) ask '-> error internal' 'bm8ga2V5IGlzIHBsdWdnZWQgaW4'; end ;; # no key is plugged in
  asks | asks-and-works)
    ask '-> msg' 'dG91Y2ggaXQ' # touch it
    echo "$answer" > "$here/told"
    ask '-> confirm c3VyZQ bm8' 'YXJlIHlvdSBzdXJlPw' # sure, no: are you sure?
    [ "$answer" = '-> ok yes' ] || { ask '-> error internal' 'bm90IHN1cmU'; end; } # not sure
    ask '-> request-public' 'd2hvPw' # who?
    [ "$answer $body" = '-> ok bWU' ] || { ask '-> error internal' 'bm90IG1l'; end; } # me, else: not me
    ask '-> request-secret' 'UElOPw' # PIN?
    [ "$mode" = asks ] || sleep 0.1
    [ "$answer $body" = '-> ok MTIzNA' ] || { ask '-> error internal' 'd3JvbmcgUElO'; end; } # 1234, else: wrong PIN
    ;;
  another-key) key=AAAAAAAAAAAAAAAAAAAAAA ;;
esac

case $1 in
  *recipient-v1) ask '-> recipient-stanza 0 shkey and more' "$key" ;;
  *identity-v1) [ -z "$ours" ] || ask '-> file-key 0' "$key" ;;
esac
end
