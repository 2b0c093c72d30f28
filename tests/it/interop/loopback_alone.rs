//! A machine that has nothing but loopback, and no multicast: a network namespace of the story's own.

use std::time::Duration;

use swarmgate_tests::namespace::in_a_namespace;
use swarmgate_tests::process::Process;
use swarmgate_tests::programs::Program;

use super::scratch;

/// It moves a film twice, and nothing waits for a network that is not there.
const DEMO_WITHIN: Duration = Duration::from_secs(30);

/// Brings loopback up, shows what there is, runs the demo and shows what was sent: `$0` is the gateway.
const SCRIPT: &str = r#"ip link set lo up && ip -oneline link && "$0" demo
status=$?
cat /proc/self/net/snmp /proc/self/net/netstat
exit $status"#;

#[tokio::test]
async fn is_enough_for_the_demo_which_sends_nothing_elsewhere() {
    let dir = scratch();
    let Some(gateway) = Program::Swarmgate.find() else { return };
    let Some(mut command) = in_a_namespace() else { return };
    command.args(["sh", "-c", SCRIPT]).arg(gateway).env("RUST_LOG", "warn");
    let mut demo = Process::start("demo", &command, dir.path());
    let status = demo.finished(DEMO_WITHIN).await;
    let said = demo.log();
    assert!(status.success(), "{status}:\n{said}");
    assert!(said.contains("over WebRTC:"), "{said}");

    let links: Vec<_> = said.lines().filter(|line| line.contains(" mtu ")).collect();
    assert!(matches!(links[..], [lo] if lo.contains("lo:") && !lo.contains("MULTICAST")), "{links:?}");
    let lower = said.to_lowercase();
    assert!(!["multicast", "mdns", "warn"].iter().any(|word| lower.contains(word)), "{said}");
    assert_eq!((counter(&said, "Ip:", "OutNoRoutes"), counter(&said, "IpExt:", "OutMcastPkts")), (0, 0), "{said}");
    assert!(counter(&said, "Udp:", "OutDatagrams") > 1000, "the film came by UDP too: {said}");
}

/// A counter of the kernel's: tables of two lines each, names above numbers.
fn counter(tables: &str, table: &str, name: &str) -> u64 {
    let mut rows = tables.lines().filter_map(|line| line.strip_prefix(table)).map(str::split_whitespace);
    let (Some(names), Some(mut numbers)) = (rows.next(), rows.next()) else { panic!("no table {table} in {tables}") };
    let at = names.into_iter().position(|it| it == name);
    let number = at.and_then(|at| numbers.nth(at)).and_then(|number| number.parse().ok());
    number.unwrap_or_else(|| panic!("no {name} of {table} in {tables}"))
}
