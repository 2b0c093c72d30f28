//! The gateway specifications' own tests: what they need is imported by the command line, then they run against the
//! gateway, with nobody on the network to ask.

use std::time::Duration;

use swarmgate_tests::conformance::{self, Fixtures};
use swarmgate_tests::gateway::{self, Gateway, ipfs};

use super::scratch;

/// A few KiB each.
const IMPORTED_WITHIN: Duration = Duration::from_secs(20);

/// The host of the gateway in the requests of these tests.
const HOST: &str = "example.com";

/// The host that a proxy before it puts into requests.
const PROXIED: &str = "fake.domain.com";

/// Those of all mature specifications: path, subdomain, trustless, DNSLink, redirects.
#[tokio::test]
async fn conformance_of_every_kind_of_gateway() {
    let dir = scratch();
    let Some(fixtures) = Fixtures::extract(dir.path()).await else { return };
    for car in fixtures.cars() {
        // One of them lacks blocks, and is to.
        let arguments = ["import-car", "--allow-missing", &car.to_string_lossy()];
        let Some((done, said)) = gateway::run(dir.path(), &arguments, IMPORTED_WITHIN).await else { return };
        assert!(done, "{} was not imported: {said}", car.display());
    }
    let (mut taken, mut refused) = (0, Vec::new());
    for record in fixtures.records() {
        let arguments = ["ipns", "import-record", &record.to_string_lossy()];
        let Some((done, said)) = gateway::run(dir.path(), &arguments, IMPORTED_WITHIN).await else { return };
        if done { taken += 1 } else { refused.push(said) }
    }
    // Some are there to be refused; the tests know which.
    eprintln!("{taken} records, {} refused: {refused:#?}", refused.len());
    assert!(taken > refused.len(), "of {taken} records that were taken and {} that were not", refused.len());

    let links = fixtures.dnslinks();
    let hosts: Vec<_> = links.keys().map(String::as_str).chain(["localhost", PROXIED]).collect();
    let hosts = hosts.join(",");
    let links: Vec<_> = links.iter().map(|(host, path)| format!("{host}:{path}")).collect();
    let options = [
        (ipfs::DNSLINKS, links.join(",")),
        (ipfs::SUBDOMAIN_HOSTS, HOST.to_owned()),
        ("SWARMGATE_SERVER__ALLOWED_HOSTS", hosts),
    ];
    let options = options.each_ref().map(|(key, value)| (*key, value.as_str()));
    let Some(gateway) = Gateway::start_with(dir.path(), &options).await else { return };
    let subdomains = format!("http://{HOST}:{}", gateway.http_address().port());
    let Some(report) = conformance::test(&gateway.url(""), &subdomains, &[], dir.path()).await else { return };
    eprintln!("{report}");
    let details: Vec<_> = report.failures.values().map(String::as_str).collect();
    assert!(report.failures.is_empty(), "{}\n{report}", details.concat());
    assert!(report.groups.values().map(|group| group.passed).sum::<usize>() > 0, "nothing was tested");
}
