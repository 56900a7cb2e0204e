use super::*;

fn checked(text: &str) -> Result<RemoteConfig, String> {
    let typed: TypedRemote = toml::from_str(text).unwrap();
    typed.check().map_err(|error| error.to_string())
}

#[test]
fn nothing_typed_names_no_servers() {
    assert_eq!(checked("").unwrap(), RemoteConfig::default());
    assert_eq!(checked("endpoints = []\ntimeout_ms = 5").unwrap(), RemoteConfig::default());
    assert_eq!(checked("").unwrap().of("cnn"), None);
    assert!(toml::from_str::<TypedRemote>("endpoint = []").is_err());
}

#[test]
fn an_address_is_read_or_refused() {
    let read = |text: &str| Address::read(text).map(|address| address.to_string());
    assert_eq!(read("grpc://127.0.0.1:8081").unwrap(), "grpc://127.0.0.1:8081");
    assert_eq!(read("https://a.example/serving/").unwrap(), "https://a.example:443/serving");
    assert_eq!(read("http://[::1]").unwrap(), "http://[::1]:80");
    assert_eq!(read("grpcs://[::1]:9").unwrap(), "grpcs://[::1]:9");
    for wrong in [
        "a:1",
        "ftp://a:1",
        "grpc://",
        "grpc://a:0",
        "grpc://a:x",
        "http://u@a:1",
        "grpc://a:1/v2",
        "http://a:1/?q",
        "http://a:1/x y",
        "http://[::g]:1",
        "http://a b:1",
        "http://[::1",
        "http://:1",
    ] {
        assert!(read(wrong).unwrap_err().contains(wrong), "{wrong}");
    }
    let loops = |text: &str| Address::read(text).unwrap().is_loopback();
    assert!(loops("http://localhost") && loops("grpc://[::1]:1") && loops("http://127.9.9.9:1"));
    assert!(!loops("http://127.0.0.1.example") && !loops("http://10.0.0.1"));
}

#[test]
fn limits_that_make_no_sense_are_refused() {
    for (text, key) in [
        ("timeout_ms = 0", "remote.timeout_ms"),
        ("health_ms = 9999999999", "remote.health_ms"),
        ("retry_ratio = 1.5", "remote.retry_ratio"),
        ("retry_ratio = nan", "remote.retry_ratio"),
        ("endpoints = [\"grpc://a:1\", \"grpc://a:1\"]", "remote.endpoints"),
        ("token_file = \"a\"\ntoken_env = \"B\"", "remote.token_file"),
        ("[models.cnn]\ntimeout_ms = 5", "remote.models.cnn.endpoints"),
        ("[models.cnn.models.x]\n", "remote.models.cnn.models"),
    ] {
        let error = checked(text).unwrap_err();
        assert!(error.starts_with(key), "{text}: {error}");
    }
}

#[test]
fn a_token_goes_to_no_other_machine_in_the_clear() {
    let with = |endpoint: &str, more: &str| {
        checked(&format!("endpoints = [\"{endpoint}\"]\ntoken_env = \"T\"\n{more}"))
    };
    let error = with("http://10.0.0.1:80", "").unwrap_err();
    assert!(error.contains("allow_insecure_token"), "{error}");
    assert!(with("grpc://a.example:80", "").is_err());
    if cfg!(feature = "remote") {
        assert!(with("http://10.0.0.1:80", "allow_insecure_token = true").is_ok());
        assert!(with("http://127.0.0.1:80", "").is_ok() && with("grpcs://a.example", "").is_ok());
    }
}

#[cfg(feature = "remote")]
#[test]
fn a_model_has_servers_of_its_own_and_the_other_keys_of_all() {
    let text = "endpoints = [\"grpc://a:1\"]\ntimeout_ms = 7\ntoken_env = \"\"\n\
                [models.cnn]\nendpoints = [\"https://b\"]\ntoken_file = \"t\"\nretry_ratio = 0.25";
    let config = checked(text).unwrap();
    let (own, all) = (config.of("cnn").unwrap(), config.of("other").unwrap());
    assert_eq!((own.timeout_ms, own.health_ms, own.retries_per_1000), (7, 1000, 250));
    assert_eq!(own.token, Some(TokenPlace::File("t".into())));
    assert_eq!((all.retries_per_1000, &all.token), (100, &None));
    assert_eq!(own.endpoints[0].to_string(), "https://b:443");
}

#[cfg(not(feature = "remote"))]
#[test]
fn a_program_without_remote_models_says_which_feature_is_missing() {
    let error = checked("endpoints = [\"grpc://a:1\"]").unwrap_err();
    assert!(error.contains("feature `remote`"), "{error}");
}
