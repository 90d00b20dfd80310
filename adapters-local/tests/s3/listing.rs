//! Pages of keys, on any server: names in which the order of bytes is also the order of folders.

use burstflare_ports::blob::Blobs;
use burstflare_ports::stream::Body;

use crate::fresh::Fresh;
use crate::reach::options;
use crate::{bytes, key};

#[tokio::test]
async fn keys_come_in_pages_of_any_size_each_once() {
    let Some(fresh) = Fresh::start(|port| options(port, "pages", "")).await else { return };
    let mut wanted: Vec<_> = (0..23)
        .map(|number| key(&format!("w/{}/{number:02}", number % 3)))
        .chain([key("w/Z"), key("w/z")])
        .collect();
    for key in wanted.iter().chain(&[key("v/0"), key("w0"), key("x/0")]) {
        fresh.put(key, Body::Full(bytes(3, 0)), 3).await.expect("the put");
    }
    wanted.sort();
    for limit in [1, 2, 7, 24, 25, 26, 200] {
        let (mut found, mut after) = (Vec::new(), None);
        loop {
            let page = fresh.list(&key("w"), after.as_ref(), limit).await.expect("a page");
            assert!(page.keys.len() <= limit, "{} in a page of {limit}", page.keys.len());
            found.extend(page.keys);
            assert!(found.len() <= wanted.len(), "the list does not end: {found:?}");
            after = page.next;
            if after.is_none() {
                break;
            }
        }
        assert_eq!(found, wanted, "in pages of {limit}");
    }
}
