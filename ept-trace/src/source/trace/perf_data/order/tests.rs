use super::*;

fn event(time_ns: u64) -> Record {
    Record { time_ns, tid: 1, tgid: 1, event: Tracepoint::UnmapHva }
}

/// All that is handed out up to now.
fn told(order: &mut Order) -> Vec<Record> {
    let mut batch = Batch::default();
    while order.hand_out(&mut batch) {}
    batch.records
}

/// What comes of rounds, each of so many events; and what is skipped.
fn of_rounds(mut order: Order, rounds: &[&[u64]]) -> (Vec<Record>, Skipped) {
    let (mut records, mut skipped) = (Vec::new(), Skipped::default());
    for round in rounds {
        for time in *round {
            order.push(event(*time));
            order.make_room(&mut skipped);
            records.extend(told(&mut order));
        }
        order.end_round(&mut skipped);
        records.extend(told(&mut order));
    }
    order.end(&mut skipped);
    records.extend(told(&mut order));
    (records, skipped)
}

fn times(records: &[Record]) -> Vec<u64> {
    records.iter().map(|record| record.time_ns).collect()
}

#[test]
fn the_end_of_a_round_tells_up_to_the_newest_of_the_round_before() {
    let (mut order, mut skipped) = (Order::default(), Skipped::default());
    // The example of perf's own comment: two CPUs, three rounds.
    let rounds = [&[1, 2, 2, 3, 4][..], &[3, 4, 5, 6, 7], &[6, 7, 8, 8, 9, 10]];
    let expected = [&[][..], &[1, 2, 2, 3, 3, 4, 4], &[5, 6, 6, 7, 7]];
    for (round, expected) in rounds.into_iter().zip(expected) {
        for time in round {
            order.push(event(*time));
        }
        order.end_round(&mut skipped);
        assert_eq!(times(&told(&mut order)), expected);
    }
    order.end(&mut skipped);
    assert_eq!(times(&told(&mut order)), [8, 8, 9, 10]);
    assert_eq!(skipped, Skipped::default());
}

#[test]
fn buffers_of_many_cpus_come_out_in_order() {
    let mut rounds = vec![Vec::new(); 50];
    let mut expected = Vec::new();
    for cpu in 0..16_u64 {
        for number in 0..5000_u64 {
            let time = 1 + number * 16 + (cpu * 7 + number) % 16;
            // Each CPU is looked at a little later than the one before.
            let round = ((number + 100 - cpu * 3) / 104) as usize;
            rounds[round].push(time);
            expected.push(time);
        }
    }
    expected.sort_unstable();
    let rounds: Vec<_> = rounds.iter().map(|round| &round[..]).collect();
    let (records, skipped) = of_rounds(Order::default(), &rounds);
    assert_eq!(skipped, Skipped::default());
    assert_eq!(times(&records), expected);
}

#[test]
fn what_comes_at_one_time_stays_in_the_order_of_the_file() {
    let mut order = Order::default();
    let mut skipped = Skipped::default();
    for tid in 0..100 {
        order.push(Record { tid, ..event(7) });
    }
    order.end(&mut skipped);
    let tids = told(&mut order).into_iter().map(|record| record.tid);
    assert!(tids.eq(0..100));
}

#[test]
fn no_more_is_kept_than_there_is_room_for() {
    let (mut order, mut skipped) = (Order::keeping(10), Skipped::default());
    let mut records = Vec::new();
    for time in 1..1000 {
        order.push(event(time));
        order.make_room(&mut skipped);
        records.extend(told(&mut order));
        assert!(order.kept.len() < 10);
    }
    order.end(&mut skipped);
    records.extend(told(&mut order));
    assert_eq!(skipped, Skipped::default());
    assert!(times(&records).into_iter().eq(1..1000));
}

#[test]
fn events_that_come_too_late_are_told_of_and_stand_for_themselves() {
    let rounds = [&[10, 20, 30, 40][..], &[50, 60, 70, 80], &[15, 90], &[95]];
    let (records, skipped) = of_rounds(Order::default(), &rounds);
    assert_eq!(skipped.count, 1);
    assert!(skipped.first[0].contains("1 events that come too late"), "{skipped:?}");
    let late = records.iter().position(|record| *record == event(15)).unwrap();
    assert_eq!(records[late - 2], event(40), "told before");
    assert_eq!(records[late - 1], lost(15, Some(0)));
    assert_eq!(records[late + 1], lost(15, None));
    assert_eq!(records[late + 2], event(50));
    let whole = records.iter().filter(|it| it.event == Tracepoint::UnmapHva);
    assert_eq!(whole.count(), 11);
}

/// As of a byte that is damaged.
#[test]
fn a_time_far_away_does_not_matter_for_long() {
    let mut rounds: Vec<Vec<u64>> = (1..10).map(|it| vec![10 * it, 10 * it + 5]).collect();
    rounds[3].push(u64::MAX);
    let rounds: Vec<_> = rounds.iter().map(|round| &round[..]).collect();
    let (records, skipped) = of_rounds(Order::default(), &rounds);
    let (losses, events): (Vec<&Record>, Vec<&Record>) =
        records.iter().partition(|it| it.event != Tracepoint::UnmapHva);
    assert_eq!(events.len(), 2 * 9 + 1);
    assert_eq!((skipped.count, losses.len()), (1, 3), "{skipped:?} {losses:?}");
    assert_eq!(times(&records[records.len() - 6..]), [70, 75, 80, 85, 90, 95]);
}

#[test]
fn in_a_gap_each_record_stands_for_itself() {
    let (mut order, mut skipped) = (Order::default(), Skipped::default());
    for time in [1, 2, 3, 4, 5, 6] {
        order.push(event(time));
    }
    order.lose((2, 4), Some(9));
    order.end(&mut skipped);
    let none = lost(3, Some(0));
    let expected = [event(1), event(2), none, event(3), event(4), lost(4, Some(9))];
    assert_eq!(told(&mut order), [&expected[..], &[event(5), event(6)]].concat());
}

/// As a file can ask for: rounds without an end, after one that has much.
#[test]
fn rounds_cost_little_where_much_was_kept() {
    let (mut order, mut skipped) = (Order::default(), Skipped::default());
    let mut work = 0;
    for round in 0..100_000 {
        let events = if round == 0 { 200_000 } else { 1 };
        for number in 0..events {
            order.push(event(u64::MAX - number - round));
        }
        work += order.kept.len();
        order.end_round(&mut skipped);
        told(&mut order);
    }
    assert!(work < 1_000_000, "{work}");
}
