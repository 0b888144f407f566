//! The suites there are, and which of them a command line means.

use std::collections::BTreeSet;

use anyhow::bail;

use crate::workspace::Package;

/// The name under which the doc tests of all libraries run.
const DOC: &str = "doc";

/// What to run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Selection {
    /// Integration tests, wherever they stand.
    pub(crate) tests: BTreeSet<String>,
    /// Packages, with all their tests.
    pub(crate) packages: BTreeSet<String>,
    /// The doc tests of all libraries.
    pub(crate) doc: bool,
}

impl Selection {
    /// What these names mean: an integration test, a package (with or without `tokenkeep-`), or `doc`. A name that is
    /// both means both.
    pub(crate) fn of(names: &[String], packages: &[Package]) -> anyhow::Result<Self> {
        let mut selection = Self::default();
        for name in names {
            let mut known = false;
            if name == DOC {
                selection.doc = true;
                known = true;
            }
            for package in packages {
                if package.tests.contains(name) {
                    selection.tests.insert(name.clone());
                    known = true;
                }
                if is_named(package, name) {
                    selection.packages.insert(package.name.clone());
                    known = true;
                }
            }
            if !known {
                bail!("there is no suite `{name}`; there are: {}", all(packages).join(", "));
            }
        }
        Ok(selection)
    }

    /// Every integration test that it runs, those of its packages included.
    pub(crate) fn integration_tests<'a>(&'a self, packages: &'a [Package]) -> BTreeSet<&'a str> {
        let of_packages = packages.iter().filter(|package| self.packages.contains(&package.name));
        let all = of_packages.flat_map(|package| &package.tests).chain(&self.tests);
        all.map(String::as_str).collect()
    }
}

/// The names of all suites.
pub(crate) fn all(packages: &[Package]) -> Vec<String> {
    let tests = packages.iter().flat_map(|package| package.tests.iter().cloned());
    let names = packages.iter().map(|package| short(package).to_owned());
    let all: BTreeSet<_> = tests.chain(names).chain([DOC.to_owned()]).collect();
    all.into_iter().collect()
}

fn is_named(package: &Package, name: &str) -> bool {
    package.name == name || short(package) == name
}

fn short(package: &Package) -> &str {
    package.name.strip_prefix("tokenkeep-").unwrap_or(&package.name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packages() -> Vec<Package> {
        let package = |name: &str, tests: &[&str]| Package {
            name: name.to_owned(),
            features: Vec::new(),
            has_library: true,
            tests: tests.iter().map(|&test| test.to_owned()).collect(),
        };
        vec![
            package("tokenkeep-store", &["keychain", "vault"]),
            package("tokenkeep-tests", &["vault", "race"]),
        ]
    }

    fn names(names: &[&str]) -> Vec<String> {
        names.iter().map(|&name| name.to_owned()).collect()
    }

    #[test]
    fn names_mean_tests_packages_and_doc_tests() {
        let selection = Selection::of(&names(&["race", "store", "doc"]), &packages()).unwrap();
        assert_eq!(selection.tests, BTreeSet::from(["race".to_owned()]));
        assert_eq!(selection.packages, BTreeSet::from(["tokenkeep-store".to_owned()]));
        assert!(selection.doc);
        assert_eq!(selection.integration_tests(&packages()), BTreeSet::from(["keychain", "race", "vault"]));
    }

    #[test]
    fn an_unknown_name_is_told_with_those_there_are() {
        let error = Selection::of(&names(&["vualt"]), &packages()).unwrap_err().to_string();
        assert_eq!(error, "there is no suite `vualt`; there are: doc, keychain, race, store, tests, vault");
    }
}
