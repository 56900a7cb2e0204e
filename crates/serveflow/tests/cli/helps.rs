//! Help from outside: what is printed where, and how long it is.

use super::kit::serveflow;

#[test]
fn help_is_a_success_on_standard_output() {
    for command in [
        &[][..],
        &["train"],
        &["run"],
        &["bundle"],
        &["bundle", "add"],
        &["bench", "traffic"],
        &["control", "shadow"],
        &["config", "example"],
    ] {
        for flag in ["-h", "--help"] {
            let ran = serveflow(&[command, &[flag]].concat()).exits(0);
            assert_eq!(ran.err, "", "{command:?}");
            for words in ["Usage: serveflow", "Global options:", "Examples:"] {
                assert!(ran.out.contains(words), "{command:?}: {words}: {}", ran.out);
            }
        }
        let named = serveflow(&[&["help"], command].concat()).exits(0);
        assert_eq!(named.out, serveflow(&[command, &["--help"]].concat()).out, "{command:?}");
    }
    let [short, long] = ["-h", "--help"].map(|flag| serveflow(&["train", flag]).out);
    assert!(!short.contains("--learning-rate") && long.contains("--learning-rate"));
    assert!(short.lines().count() < 80, "{short}");
    assert!(serveflow(&["-V"]).exits(0).out.starts_with("serveflow "));
    assert!(serveflow(&["--help"]).out.starts_with("Classify network flows"));
}

#[test]
fn a_wrong_value_names_the_right_ones() {
    let train = ["train", "--captures", "x", "--out", "y"];
    for (option, values) in [
        ("--objective", "latency, cpu, escalation"),
        ("--rule", "learned, least_confidence, margin, entropy"),
        ("--uncertainty", "least_confidence, margin, entropy"),
        ("--kinds", "tree, forest, boosted"),
        ("--features", "header_bits, packet_series, flow_stats"),
        ("--headers", "ipv4, ipv6, tcp, udp, icmp"),
        ("--mask", "tcp_timestamps, ttl, none"),
        ("--guarantee-metric", "accuracy, macro_f1"),
    ] {
        let ran = serveflow(&[&train[..], &[option, "teapot"]].concat()).exits(2);
        ran.says(&["teapot", option, values]);
    }
}
