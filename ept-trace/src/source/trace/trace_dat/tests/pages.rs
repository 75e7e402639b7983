//! The entries of a page, each by itself.

use super::super::page::{Cursor, Head};
use super::made::{Page, changed, entry};
use crate::source::trace::tracing_data::PageLayout;

const LAYOUT: PageLayout = PageLayout { commit: 8, commit_size: 8, data: 16, size: 4096 };

/// The times and sizes of the events of a page, and what is wrong with it.
fn events(page: &[u8]) -> (Vec<(u64, usize)>, Option<String>) {
    let head = match Head::read(page, &LAYOUT) {
        Ok(head) => head,
        Err(why) => return (Vec::new(), Some(why)),
    };
    let mut cursor = Cursor::new(&head);
    let mut events = Vec::new();
    loop {
        match cursor.next(page) {
            Ok(Some(event)) => events.push((cursor.time, event.len())),
            Ok(None) => return (events, None),
            Err(why) => return (events, Some(why)),
        }
    }
}

fn good(page: Page) -> Vec<(u64, usize)> {
    let (events, wrong) = events(&page.bytes());
    assert_eq!(wrong, None);
    events
}

fn bad(page: Page) -> String {
    events(&page.bytes()).1.unwrap()
}

#[test]
fn times_add_up() {
    let page = Page::at(1000).event(0, &[1; 8]).event(7, &[1; 112]).event(1, &[1; 116]);
    assert_eq!(good(page), [(1000, 8), (1007, 112), (1008, 116)]);
    let long = 5 << 27 | 3;
    let page = Page::at(1000).extend(long).event(4, &[1; 8]).event(1, &[1; 8]);
    assert_eq!(good(page), [(1004 + long, 8), (1005 + long, 8)]);
}

#[test]
fn an_absolute_time_has_the_top_bits_of_the_time_before() {
    let page = Page::at(1000).stamp(7 << 30).event(2, &[1; 8]);
    assert_eq!(good(page), [((7 << 30) + 2, 8)]);
    let top = 3 << 59;
    let page = Page::at(top + 1000).stamp(7 << 30).event(2, &[1; 8]);
    assert_eq!(good(page), [((top | 7 << 30) + 2, 8)]);
    let page = Page::at(8 << 30).event(0, &[1; 8]).stamp(7 << 30).event(2, &[1; 8]);
    assert!(bad(page).contains("before that of the event before"));
}

#[test]
fn what_was_discarded_takes_time_and_is_no_event() {
    let discarded = [12_u32.to_le_bytes(), [9; 4], [9; 4]].concat();
    let page = Page::at(1000).event(1, &[1; 8]).entry(29, 5, &discarded).event(2, &[1; 8]);
    assert_eq!(good(page), [(1001, 8), (1008, 8)]);
    // What is left of a page.
    let page = Page::at(1000).event(1, &[1; 8]).entry(29, 0, &[9; 40]);
    assert_eq!(good(page), [(1001, 8)]);
}

#[test]
fn what_does_not_fit_in_the_page_is_told() {
    assert!(bad(Page::at(0).entry(5, 1, &[0; 16])).contains("type 5"));
    assert!(bad(Page::at(0).entry(0, 1, &3_u32.to_le_bytes())).contains("type 0"));
    assert!(bad(Page::at(0).entry(0, 1, &u32::MAX.to_le_bytes())).contains("type 0"));
    assert!(bad(Page::at(0).entry(0, 1, &[])).contains("type 0"));
    assert!(bad(Page::at(0).entry(29, 1, &3_u32.to_le_bytes())).contains("type 29"));
    assert!(bad(Page::at(0).entry(29, 1, &u32::MAX.to_le_bytes())).contains("type 29"));
    assert!(bad(Page::at(0).entry(30, 1, &[])).contains("type 30"));
    assert!(bad(Page::at(0).entry(31, 1, &[])).contains("type 31"));
    assert!(bad(Page::at(u64::MAX).event(1, &[0; 4])).contains("beyond all times"));
    let mut cut = Page::at(0).event(1, &[0; 4]).bytes();
    cut[8] = 10;
    assert!(events(&cut).1.unwrap().contains("cut off"));
}

#[test]
fn the_length_of_the_data_has_flags() {
    let missed = |page: &[u8]| Head::read(page, &LAYOUT).unwrap().missed.map(|it| it.events);
    assert_eq!(missed(&Page::at(0).event(0, &[1; 8]).bytes()), None);
    assert_eq!(missed(&Page::at(0).event(0, &[1; 8]).after_loss(None)), Some(None));
    assert_eq!(missed(&Page::at(0).event(0, &[1; 8]).after_loss(Some(9))), Some(Some(9)));
    let with_length = |length: u64| {
        let mut page = Page::at(0).bytes();
        page[8..16].copy_from_slice(&length.to_le_bytes());
        Head::read(&page, &LAYOUT)
    };
    with_length(4080).unwrap();
    with_length((1 << 31) + 4080).unwrap();
    for length in [4081, 1 << 27, 1 << 29, 1 << 32, u64::MAX, 0xffff_ffff_0000_0000] {
        let why = with_length(length).unwrap_err();
        assert!(why.contains(&format!("{length:#x}")), "{why}");
    }
    assert!(Head::read(&[0; 15], &LAYOUT).is_err());
}

#[test]
fn a_kernel_of_32_bits_has_a_shorter_head() {
    let layout = PageLayout { commit: 8, commit_size: 4, data: 12, size: 4096 };
    let mut page = [&1000_u64.to_le_bytes()[..], &((3_u32 << 30) + 12).to_le_bytes()].concat();
    page.extend([2 | 5 << 5, 0, 0, 0]);
    page.extend([1; 8]);
    page.extend(33_u32.to_le_bytes());
    page.resize(4096, 0);
    let head = Head::read(&page, &layout).unwrap();
    assert_eq!(head.missed.unwrap().events, Some(33));
    let mut cursor = Cursor::new(&head);
    assert_eq!(cursor.next(&page), Ok(Some(&[1; 8][..])));
    assert_eq!(cursor.time, 1005);
    assert_eq!(cursor.next(&page), Ok(None));
}

/// Whatever bytes there are: each step goes on, and none leaves the page.
#[test]
fn no_page_is_endless() {
    let mut seed = 1_u64;
    for _ in 0..2000 {
        let mut page = Page::at(5).event(1, &entry(1, 2)).event(1, &changed(1, 2, 3)).bytes();
        for byte in &mut page[16..] {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            *byte = seed.to_le_bytes()[5];
        }
        let length = u16::try_from(seed % 4081).unwrap();
        page[8..10].copy_from_slice(&length.to_le_bytes());
        let (events, _) = events(&page);
        assert!(events.len() <= 1020);
    }
}
