//! Where events are missing.

use super::made::{Made, Page, entry, unknown};
use super::*;

/// The times and events of a batch, a loss as how many.
fn told(batch: &Batch) -> Vec<(u64, Result<u32, Option<u64>>)> {
    let event = |record: &Record| match record.event {
        Tracepoint::Entry { vcpu } => Ok(vcpu.unwrap()),
        Tracepoint::Lost { events } => Err(events),
        other => panic!("{other:?}"),
    };
    batch.records.iter().map(|record| (record.time_ns, event(record))).collect()
}

fn page(time: u64, vcpu: u32) -> Page {
    Page::at(time).event(0, &entry(1, vcpu)).event(1, &entry(1, vcpu + 1))
}

#[test]
fn a_gap_is_told_where_it_begins_and_where_it_ends() {
    let lossy = vec![page(100, 1).bytes(), page(300, 3).after_loss(Some(9))];
    let whole = vec![page(50, 11).bytes(), page(200, 13).bytes(), page(400, 15).bytes()];
    let batch = read(&Made::new(vec![lossy, whole]).v6());
    assert_eq!(batch.skipped.count, 0);
    let expected = [
        (50, Ok(11)),
        (51, Ok(12)),
        (100, Ok(1)),
        (101, Ok(2)),
        (101, Err(Some(9))),
        (200, Ok(13)),
        (201, Ok(14)),
        (300, Err(Some(0))),
        (300, Ok(3)),
        (301, Ok(4)),
        (400, Ok(15)),
        (401, Ok(16)),
    ];
    assert_eq!(told(&batch), expected);
}

#[test]
fn a_loss_before_the_first_page_begins_with_the_log() {
    let lossy = vec![page(300, 3).after_loss(None)];
    let whole = vec![page(50, 11).bytes()];
    let batch = read(&Made::new(vec![whole, lossy]).v6());
    let expected = [
        (50, Err(None)),
        (50, Ok(11)),
        (51, Ok(12)),
        (300, Err(Some(0))),
        (300, Ok(3)),
        (301, Ok(4)),
    ];
    assert_eq!(told(&batch), expected);
}

#[test]
fn what_the_kernel_counted_as_overwritten_is_a_gap_at_the_begin() {
    let cpus = vec![vec![page(50, 11).bytes()], vec![page(300, 3).bytes()]];
    let batch = read(&Made::new(cpus.clone()).stats(0, 0, 0).stats(1, 7, 0).v6());
    let losses: Vec<_> = told(&batch).into_iter().filter(|(_, event)| event.is_err()).collect();
    assert_eq!(losses, [(50, Err(None)), (300, Err(Some(0)))]);
    let batch = read(&Made::new(cpus).stats(0, 0, 0).stats(1, 0, 0).v6());
    assert!(!tells_loss(&batch));
}

#[test]
fn counts_are_those_of_the_instance() {
    let cpus = || vec![vec![page(50, 11).bytes()]];
    let mut made = Made::new(cpus()).stats(0, 0, 0).option(2, "\nBuffer: kvm\n\n").stats(0, 7, 0);
    made.buffers.push(made::Buffer { name: "kvm", cpus: cpus() });
    let dat = open(&made.v6()).unwrap();
    assert!(!tells_loss(&read_all(&dat, 0).unwrap()));
    assert!(tells_loss(&read_all(&dat, 1).unwrap()));
}

#[test]
fn events_that_were_dropped_may_be_missing_anywhere() {
    let pages = |from: u64| (from..from + 100).map(|time| page(time * 10, 1).bytes()).collect();
    let batch = read(&Made::new(vec![pages(1), pages(2)]).stats(1, 0, 5).v6());
    let told = told(&batch);
    assert_eq!(told.first(), Some(&(10, Err(Some(5)))));
    assert_eq!(told.last().unwrap().1, Err(Some(0)));
    let whole = told.split(|(_, event)| event.is_err()).map(<[_]>::len).max();
    assert_eq!(whole, Some(64), "records without a word of the gap");
    // Or with fewer records, by time.
    let pages = (1..10).map(|time| page(time * 200_000_000, 1).bytes()).collect();
    let batch = read(&Made::new(vec![pages]).stats(0, 0, 5).v6());
    assert_eq!(batch.records.iter().filter(|it| is_loss(it)).count(), 1 + 8 + 1);
}

#[test]
fn damage_in_a_page_is_a_gap_up_to_the_next() {
    let damaged = Page::at(100).event(0, &entry(1, 1)).entry(28, 1, &[0; 8]);
    let pages = vec![damaged.bytes(), page(300, 3).bytes()];
    let batch = read(&Made::new(vec![pages]).v6());
    let expected =
        [(100, Ok(1)), (100, Err(None)), (300, Err(Some(0))), (300, Ok(3)), (301, Ok(4))];
    assert_eq!(told(&batch), expected);
    assert_eq!(batch.skipped.count, 1);
    let first = &batch.skipped.first[0];
    assert!(first.starts_with("offset 0x") && first.contains("(CPU 0)"), "{first}");
    assert!(first.ends_with("an event of type 28 that does not fit in the page"), "{first}");
}

#[test]
fn an_unknown_event_is_lost_and_what_follows_is_read() {
    let pages = vec![Page::at(100).event(0, &unknown()).event(1, &entry(1, 1)).bytes()];
    let batch = read(&Made::new(vec![pages]).v6());
    assert_eq!(told(&batch), [(100, Err(Some(1))), (101, Ok(1))]);
    assert!(batch.skipped.first[0].ends_with("an event with ID 99, which no good format has"));
}

#[test]
fn a_page_whose_time_fits_to_no_other_is_passed_over() {
    for wrong in [1, 1 << 40] {
        let pages = [100, 200, wrong, 300].map(|time| page(time, 1).bytes()).to_vec();
        let batch = read(&Made::new(vec![pages]).v6());
        let expected = [
            (100, Ok(1)),
            (101, Ok(2)),
            (200, Ok(1)),
            (201, Ok(2)),
            (201, Err(None)),
            (300, Err(Some(0))),
            (300, Ok(1)),
            (301, Ok(2)),
        ];
        assert_eq!(told(&batch), expected);
        assert_eq!(batch.skipped.count, 1);
    }
    // The last page.
    let pages = [100, 200, 1].map(|time| page(time, 1).bytes()).to_vec();
    let told = told(&read(&Made::new(vec![pages]).v6()));
    assert_eq!(told[2..], [(200, Ok(1)), (201, Ok(2)), (201, Err(None)), (201, Err(Some(0)))]);
}

#[test]
fn of_a_first_and_a_second_page_that_do_not_fit_neither_is_read() {
    let pages = vec![page(1 << 40, 1).bytes(), page(200, 3).bytes(), page(300, 5).bytes()];
    let batch = read(&Made::new(vec![pages]).v6());
    let expected = [(1 << 40, Err(None)), (1 << 40, Err(Some(0))), (300, Ok(5)), (301, Ok(6))];
    assert_eq!(told(&batch), expected);
    assert_eq!(batch.skipped.count, 2);
}

#[test]
fn pages_that_no_cpu_has_are_told() {
    let pages = [100, 200, 300].map(|time| page(time, 1).bytes()).to_vec();
    let made = Made::new(vec![pages.clone(), pages]);
    let whole = made.v6();
    assert!(!tells_loss(&read(&whole)));
    let table = whole.windows(10).position(|it| it == b"flyrecord\0").unwrap() + 10;
    for cpu in [0, 1] {
        let size = table + 16 * cpu + 8;
        let mut fewer = whole.clone();
        assert_eq!(fewer[size..size + 2], 0x3000_u16.to_le_bytes());
        fewer[size + 1] = 0x20;
        let batch = read(&fewer);
        let first = &batch.skipped.first[0];
        assert!(first.ends_with("4096 bytes that may be pages, and no CPU's"), "{first}");
        assert!(is_loss(&batch.records[0]) && is_loss(batch.records.last().unwrap()));
        assert_eq!(batch.records.iter().filter(|record| !is_loss(record)).count(), 5 * 2);
        // The pages of the other CPU.
        fewer[size + 1] = 0x40;
        let outcome = open(&fewer).and_then(|dat| read_all(&dat, 0));
        match cpu {
            0 => assert!(outcome.unwrap_err().to_string().contains("two CPUs")),
            _ => assert!(tells_loss(&outcome.unwrap())),
        }
    }
}

#[test]
fn a_clock_that_is_set_back_is_told() {
    let pages = [1000, 2000, 100, 200].map(|time| page(time, 1).bytes()).to_vec();
    let batch = read(&Made::new(vec![pages]).v6());
    assert_eq!(batch.records.iter().filter(|record| !is_loss(record)).count(), 8);
    let losses = told(&batch).into_iter().filter(|(_, event)| event.is_err());
    assert_eq!(losses.collect::<Vec<_>>(), [(2001, Err(None)), (2001, Err(Some(0)))]);
    assert!(batch.skipped.first[0].ends_with("from here on, times are earlier"));
}

#[test]
fn an_event_after_the_next_page_is_not_believed() {
    let wrong = Page::at(100).event(0, &entry(1, 1)).event(5000, &entry(1, 2));
    let pages = vec![wrong.bytes(), page(300, 3).bytes()];
    let batch = read(&Made::new(vec![pages]).v6());
    let expected =
        [(100, Ok(1)), (100, Err(None)), (300, Err(Some(0))), (300, Ok(3)), (301, Ok(4))];
    assert_eq!(told(&batch), expected);
    assert!(batch.skipped.first[0].ends_with("a time beyond that of the next page"));
}
