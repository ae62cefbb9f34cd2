//! Secrets are read anew for each fetch, wherever they come from.

mod support;

use std::fs;
use support::{at, field, granted, manager, told};
use testbed::stand_in::StandIn;
use token_manager::FailureClass::CredentialsRejected;
use token_manager_issuers::{Client, Secret};

#[test]
fn a_secret_in_a_file_is_read_anew_for_each_fetch() {
    let issuer = StandIn::start(|_| Some(granted("token")));
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("secret");
    let manager = manager(at(&issuer.url()).client(Client::post("id", Secret::file(&path))).build().unwrap());
    let (class, what) = told(&manager.get().unwrap_err());
    assert_eq!(class, CredentialsRejected);
    assert!(what.contains(path.to_str().unwrap()) && what.contains("cannot be read"), "{what}");
    for content in ["one\n", "two\r\n", " three\n\n", "four"] {
        fs::write(&path, content).unwrap();
        manager.lift_pause().unwrap();
        manager.invalidate(&manager.get().unwrap());
    }
    fs::write(&path, "\n").unwrap();
    assert!(told(&manager.get().unwrap_err()).1.contains("the secret is empty"));
    let sent: Vec<_> = issuer.heard().iter().filter_map(|heard| field(heard, "client_secret")).collect();
    assert_eq!(sent, ["one", "two", " three", "four"]);
}

#[test]
fn a_secret_comes_from_the_environment_and_the_second_of_two_where_the_first_is_not_there() {
    let issuer = StandIn::start(|_| Some(granted("token")));
    let two = Secret::env("NO_SUCH_VARIABLE_OF_THIS_TEST").or(Secret::env("CARGO_PKG_NAME"));
    assert_eq!(format!("{two:?}"), r#"Secret::env("NO_SUCH_VARIABLE_OF_THIS_TEST").or(Secret::env("CARGO_PKG_NAME"))"#);
    manager(at(&issuer.url()).client(Client::post("id", two)).build().unwrap()).get().unwrap();
    assert_eq!(field(&issuer.heard()[0], "client_secret").unwrap(), env!("CARGO_PKG_NAME"));
    let none = Client::post("id", Secret::env("NO_SUCH_VARIABLE_OF_THIS_TEST"));
    let (class, what) = told(&manager(at(&issuer.url()).client(none).build().unwrap()).get().unwrap_err());
    assert!(class == CredentialsRejected && what.contains("NO_SUCH_VARIABLE_OF_THIS_TEST is not set"), "{what}");
    assert_eq!(issuer.heard().len(), 1);
}
