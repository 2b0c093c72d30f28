//! `swarmgate get`: files on disk, right to the byte, however the way there went.

use std::path::Path;
use std::time::Duration;

use swarmgate_gateway::cli::Exit;
use swarmgate_gateway::cli::get::{GetOptions, run};
use swarmgate_gateway::cli::source::Failure;
use swarmgate_tests::node::{self, Content, Seeder};

use super::MIB;

fn folder() -> Content {
    let files: [(&[&str], usize); 6] = [
        (&["film.mkv"], 12 * MIB + 1),
        (&["empty.txt"], 0),
        (&["subs", "фильм.srt"], 777),
        (&[".pad", "0"], 1000),
        (&["extras", "übung №1.webm"], 5 * MIB + 3),
        (&["zz last"], 65_537),
    ];
    Content::folder("set", 81, &files, 128 * 1024)
}

/// Runs the command and says which paths it printed.
async fn get(
    content: &Content,
    seeder: &Seeder,
    out: &Path,
    select: Option<&str>,
    interrupted: impl Future<Output = ()>,
) -> Result<Vec<String>, Failure> {
    let unused = tempfile::tempdir().unwrap();
    let options = GetOptions {
        uri: format!("magnet:?{}", content.magnet_query(&[seeder.address()])),
        out: out.to_owned(),
        select: select.map(|text| text.parse().unwrap()),
    };
    let mut printed = Vec::new();
    run(&node::config(unused.path()), options, interrupted, &mut printed).await?;
    assert_eq!(std::fs::read_dir(unused.path()).unwrap().count(), 0, "a one-shot command has no cache on disk");
    Ok(String::from_utf8(printed).unwrap().lines().map(str::to_owned).collect())
}

async fn never() {
    std::future::pending().await
}

/// Every file below a directory, by path, with its bytes.
fn files_below(dir: &Path) -> Vec<(String, Vec<u8>)> {
    let mut folders = vec![dir.to_owned()];
    let mut files = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap().map(Result::unwrap) {
            if entry.path().is_dir() {
                folders.push(entry.path());
            } else {
                let path = entry.path().strip_prefix(dir).unwrap().display().to_string();
                files.push((path, std::fs::read(entry.path()).unwrap()));
            }
        }
    }
    files.sort();
    files
}

/// What must be on the disk: the files of these numbers.
fn expected(content: &Content, indices: &[usize]) -> Vec<(String, Vec<u8>)> {
    let path = |index: usize| format!("set/{}", content.metainfo.info.files[index].path.join("/"));
    let mut files: Vec<_> = indices.iter().map(|index| (path(*index), content.file(*index).to_vec())).collect();
    files.sort();
    files
}

const ALL: [usize; 5] = [0, 1, 2, 4, 5];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_file_of_a_folder_is_right_and_a_second_run_downloads_nothing() {
    let (content, dir) = (folder(), tempfile::tempdir().unwrap());
    let seeder = Seeder::start(&content).await;
    let printed = get(&content, &seeder, dir.path(), None, never()).await.unwrap();
    assert!(files_below(dir.path()) == expected(&content, &ALL), "files differ: {printed:?}");
    assert_eq!(printed.len(), ALL.len());
    assert!(printed.iter().all(|path| Path::new(path).is_file()), "{printed:?}");
    let uploaded = seeder.stats().bytes_uploaded;
    get(&content, &seeder, dir.path(), None, never()).await.unwrap();
    let again = seeder.stats().bytes_uploaded - uploaded;
    // The piece that holds padding cannot be checked from files alone.
    assert!(again <= 2 * 128 * 1024, "{again} bytes were downloaded again");
    assert!(files_below(dir.path()) == expected(&content, &ALL));
    seeder.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_that_was_cut_goes_on_where_it_stopped() {
    let content = Content::single("film.mkv", 82, 48 * MIB + 5, 256 * 1024);
    let (seeder, dir) = (Seeder::start(&content).await, tempfile::tempdir().unwrap());
    let half = content.bytes.len() as u64 / 2;
    let halfway = async {
        while seeder.stats().bytes_uploaded < half {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    let failure = get(&content, &seeder, dir.path(), None, halfway).await.unwrap_err();
    assert_eq!(failure.exit, Exit::Interrupted, "{failure}");
    let left: Vec<_> = files_below(dir.path()).into_iter().map(|(path, _)| path).collect();
    assert_eq!(left, ["film.mkv.part"], "nothing has its final name before it is complete");
    let before = seeder.stats().bytes_uploaded;
    get(&content, &seeder, dir.path(), None, never()).await.unwrap();
    let rest = seeder.stats().bytes_uploaded - before;
    eprintln!("{before} bytes before the cut, {rest} after it");
    assert!(rest < content.bytes.len() as u64 * 3 / 4, "{rest} bytes after half was there");
    assert!(files_below(dir.path()) == [("film.mkv".to_owned(), content.bytes.to_vec())]);
    seeder.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_an_earlier_run_left_damaged_is_repaired_and_the_rest_kept() {
    let content = Content::single("film.mkv", 83, 8 * MIB + 5, 256 * 1024);
    let (seeder, dir) = (Seeder::start(&content).await, tempfile::tempdir().unwrap());
    let mut damaged = content.bytes.to_vec();
    damaged[3 * MIB] ^= 1;
    damaged[8 * MIB + 4] ^= 1;
    std::fs::write(dir.path().join("film.mkv.part"), &damaged).unwrap();
    get(&content, &seeder, dir.path(), None, never()).await.unwrap();
    assert!(files_below(dir.path()) == [("film.mkv".to_owned(), content.bytes.to_vec())]);
    assert_eq!(seeder.stats().bytes_uploaded, 256 * 1024 + 5, "the two damaged pieces and nothing else");
    // So is a finished file that was damaged later, or is too long.
    damaged = content.bytes.to_vec();
    damaged[0] ^= 1;
    damaged.extend(b"tail");
    std::fs::write(dir.path().join("film.mkv"), &damaged).unwrap();
    get(&content, &seeder, dir.path(), None, never()).await.unwrap();
    assert!(files_below(dir.path()) == [("film.mkv".to_owned(), content.bytes.to_vec())]);
    seeder.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_selection_writes_its_files_alone_and_downloads_little_else() {
    let content = folder();
    let (seeder, dir) = (Seeder::start(&content).await, tempfile::tempdir().unwrap());
    get(&content, &seeder, dir.path(), Some("1-2,4"), never()).await.unwrap();
    assert!(files_below(dir.path()) == expected(&content, &[1, 2, 4]), "{:?}", dir.path());
    let (uploaded, wanted) = (seeder.stats().bytes_uploaded, content.file(4).len() as u64);
    assert!(uploaded <= wanted + 4 * 128 * 1024, "{uploaded} bytes for {wanted}");
    let failure = get(&content, &seeder, dir.path(), Some("17"), never()).await.unwrap_err();
    assert_eq!(failure.exit, Exit::NotFound, "{failure}");
    seeder.stop().await;
}
