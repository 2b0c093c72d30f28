//! What people choose of a torrent, and the words that they find it by.

use serde_json::{Value, json};
use swarmgate_tests::gateway::Gateway;
use swarmgate_tests::http;
use swarmgate_tests::visitor::{Visitor, Window};

use super::screening::{Screening, Seat, is_fine};

/// What a box is called for those who listen, as a selector.
fn named(name: &str) -> String {
    format!("input[aria-label='{name}']")
}

/// Waits until the boxes of a torrent's page are as expected: that of a folder, of its file, and of the two below.
async fn boxes_are(visitor: &Visitor, expected: [bool; 4]) {
    let script = format!(
        "const boxes = [...document.querySelectorAll('.tree .choose')].map((box) => box.checked);
            return JSON.stringify(boxes) === '{}'",
        json!(expected)
    );
    visitor.sees(&format!("the boxes {expected:?}"), &script).await;
}

async fn item(gateway: &Gateway, id: &str) -> Value {
    http::get(&gateway.url(&format!("/api/v1/items/{id}"))).await.json()
}

#[tokio::test]
async fn the_files_that_are_chosen_on_a_phone_are_kept_and_are_still_chosen_after_a_reload() {
    let Some(screening) = Screening::opened(Window::Phone, &[]).await else { return };
    let Screening { torrent, seat: Seat { visitor, gateway, .. }, .. } = &screening;
    visitor.reads("3 of 3 files chosen").await;
    boxes_are(visitor, [true; 4]).await;
    visitor.clicks(&named("All files")).await;
    visitor.reads("0 of 3 files chosen").await;
    boxes_are(visitor, [false; 4]).await;
    visitor.clicks(&named("All of Subs")).await;
    boxes_are(visitor, [true, true, false, false]).await;
    visitor.clicks(&named("All of Subs")).await;

    // The keyboard does it too.
    visitor.finds(&format!("document.querySelector(\"{}\").focus()", named("Choose read me.txt"))).await;
    visitor.presses("Space").await;
    boxes_are(visitor, [false, false, false, true]).await;
    assert_eq!(visitor.finds("return document.querySelector('.whole input').indeterminate").await, true);
    let fits = "return document.documentElement.scrollWidth <= innerWidth";
    assert_eq!(visitor.finds(fits).await, true, "the boxes are wider than the phone");
    is_fine(visitor, "choice").await;

    visitor.clicks("text=Download only the chosen files").await;
    visitor.reads("1 of 3 files chosen and kept").await;
    let chosen = item(gateway, &torrent.info_hash).await;
    assert_eq!((&chosen["select"], &chosen["pinned"]), (&json!("2"), &json!(true)), "{chosen}");

    let here = visitor.finds("return location.href").await;
    visitor.visits("about:blank").await;
    visitor.visits(here.as_str().unwrap()).await;
    visitor.reads("1 of 3 files chosen and kept").await;
    boxes_are(visitor, [false, false, false, true]).await;
    let idle = "return document.querySelector('.choice button').disabled";
    assert_eq!(visitor.finds(idle).await, true, "there is nothing to tell the gateway");

    visitor.clicks(&named("All files")).await;
    visitor.clicks("text=Download all files").await;
    visitor.reads("3 of 3 files chosen and kept").await;
    let all = item(gateway, &torrent.info_hash).await;
    assert_eq!((&all["select"], &all["pinned"]), (&Value::Null, &json!(true)), "{all}");
    is_fine(visitor, "choice of all").await;
}

#[tokio::test]
async fn a_label_is_given_in_the_dark_narrows_the_lists_and_is_taken_again() {
    let Some(screening) = Screening::opened(Window::Dark, &[]).await else { return };
    let Screening { torrent, seat: Seat { visitor, gateway, .. }, .. } = &screening;
    visitor.sees("the field", "return document.querySelector('#label')?.checkVisibility() ?? false").await;
    visitor.types("#label", "films").await;
    visitor.presses("Enter").await;
    visitor.sees("the label", "return document.querySelector('.tag')?.innerText.includes('films') ?? false").await;
    assert_eq!(item(gateway, &torrent.info_hash).await["labels"], json!(["films"]));
    is_fine(visitor, "labels").await;

    // Another, without one.
    let other = http::post(&gateway.url("/api/v1/items"), "text/plain", "ef".repeat(20).into_bytes()).await;
    assert!(other.status.is_success(), "{}", other.text());
    for (page, rows, place) in [("/#/", ".items li", "start"), ("/#/status", ".rows a[href^='#/bt/']", "status")] {
        visitor.visits(&gateway.url(page)).await;
        let shown = |count: usize| format!("return document.querySelectorAll(\"{rows}\").length === {count}");
        let choose = |label: &str| {
            format!(
                "const choice = document.querySelector('#by-label'); choice.value = '{label}';
                    choice.dispatchEvent(new Event('change'))"
            )
        };
        visitor.sees("the filter", "return document.querySelector('#by-label')?.checkVisibility() ?? false").await;
        visitor.sees("both", &shown(2)).await;
        visitor.finds(&choose("films")).await;
        visitor.sees("the one that bears it", &shown(1)).await;
        is_fine(visitor, place).await;
        visitor.finds(&choose("")).await;
        visitor.sees("both again", &shown(2)).await;
    }

    visitor.visits(&gateway.url(&format!("/#/bt/{}", torrent.info_hash))).await;
    visitor.clicks("button[aria-label='Remove label films']").await;
    visitor.sees("that it is gone", "return document.activeElement.id === 'label'").await;
    assert_eq!(item(gateway, &torrent.info_hash).await["labels"], json!([]));
}

/// The rules that are functions of their arguments, asked of the module as it is served.
#[tokio::test]
async fn a_selection_is_read_and_written_as_the_api_has_it() {
    let Some(seat) = Seat::take(Window::Desktop, &[]).await else { return };
    let Seat { visitor, gateway, .. } = &seat;
    visitor.visits(&gateway.url("/")).await;
    // What fills up between two files has a number and no row.
    let asked = "const { numbersOf, selectionOf } = await import('/ui/choose.js');
        const files = [0, 2, 3, 5].map((index) => ({ index }));
        const written = [[0, 2, 5], [3], [], [0, 2, 3, 5]].map((numbers) => selectionOf(files, new Set(numbers)));
        return [...written, ...['0-2,9', '3', null].map((select) => [...numbersOf(files, select)])]";
    let told = visitor.finds(asked).await;
    assert_eq!(told, json!(["0-2,5", "3", "", null, [0, 2], [3], [0, 2, 3, 5]]));
}
