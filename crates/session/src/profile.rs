//! Keeping a profile up to date.

use tokenkeep_auth0::Profile;

/// The new claims over the old ones: a refreshed id token often says less than the first, and what it does not say is
/// still true.
pub(crate) fn merged(old: Option<Profile>, new: &Profile) -> Option<Profile> {
    let Some(old) = old else { return Some(new.clone()) };
    let (Ok(serde_json::Value::Object(mut claims)), Ok(serde_json::Value::Object(newer))) =
        (serde_json::to_value(&old), serde_json::to_value(new))
    else {
        return Some(new.clone());
    };
    claims.extend(newer.into_iter().filter(|(_, value)| !value.is_null()));
    serde_json::from_value(serde_json::Value::Object(claims)).ok().or(Some(old))
}
