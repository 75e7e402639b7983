//! The page, as html5ever reads it, which reads as browsers do.

use ept_trace::report::Format;
use scraper::{Html, Selector};

use super::files::{File, clean, faulty, hostile, nested, shape};
use super::{report, runs};

fn page(files: &[File]) -> String {
    report(Format::Html, files)
}

fn select(selector: &str) -> Selector {
    Selector::parse(selector).unwrap_or_else(|err| panic!("{selector}: {err}"))
}

/// The text of what a selector finds.
fn texts(page: &Html, selector: &str) -> Vec<String> {
    let selector = select(selector);
    page.select(&selector).map(|element| element.text().collect()).collect()
}

/// An attribute of what a selector finds.
fn attributes(page: &Html, selector: &str, attribute: &str) -> Vec<String> {
    let selector = select(selector);
    page.select(&selector).filter_map(|found| found.attr(attribute)).map(str::to_owned).collect()
}

#[test]
fn every_page_is_well_formed() {
    for (name, files) in runs() {
        let page = Html::parse_document(&page(&files));
        assert_eq!(page.errors, Vec::<String>::new(), "{name}");
        assert!(!texts(&page, "html[lang] > body > main > section > h2").is_empty(), "{name}");
        assert_eq!(texts(&page, "h1").len(), 1, "{name}");
    }
}

/// No request, whatever is in a file.
#[test]
fn no_page_asks_for_anything() {
    const ASKING: &str = "script, link, img, iframe, frame, object, embed, audio, video, source, \
        track, input, form, base, image, use, foreignObject, a, [src], [href], [srcset], [style], \
        [background], [poster], [ping], [data], [action], [formaction], [onerror], [onload], [onclick]";
    for (name, files) in runs() {
        let text = page(&files);
        let page = Html::parse_document(&text);
        let asking: Vec<_> = page.select(&select(ASKING)).map(|found| found.html()).collect();
        assert_eq!(asking, Vec::<String>::new(), "{name}");
        let style = texts(&page, "style").concat();
        for asks in ["url(", "@import", "src:", "image-set", "//", "expression"] {
            assert!(!style.contains(asks), "{name}: {asks}");
        }
        let policy = attributes(&page, "meta[http-equiv=Content-Security-Policy]", "content");
        assert_eq!(policy.len(), 1, "{name}");
        assert!(policy[0].starts_with("default-src 'none'; style-src 'unsafe-inline';"), "{name}");
        assert!(!text.contains("://"), "{name}");
    }
}

#[test]
fn a_hostile_file_is_text() {
    let page = Html::parse_document(&page(&hostile()));
    let shown =
        "\"'><script>alert(1)</script><img src=x onerror=alert(1)>]]>&amp;\\u{202e}\\u{1b}[2J";
    for place in ["head title", "header .sources", "#complaints li", "#seen li", "#machine li"] {
        let texts = texts(&page, place).concat();
        assert!(texts.contains(shown), "{place}: {texts}");
    }
    let elements = |page: &Html| {
        let of_text = select("body *");
        let mut names: Vec<_> =
            page.select(&of_text).map(|element| element.value().name().to_owned()).collect();
        names.sort_unstable();
        names.dedup();
        names
    };
    let known = elements(&Html::parse_document(&self::page(&faulty())));
    assert_eq!(elements(&page), known, "no element that is not ours");
}

#[test]
fn the_head_says_verdict_machine_source_and_counts() {
    let page = Html::parse_document(&page(&faulty()));
    assert_eq!(texts(&page, "head title"), ["MISMATCH – vmx5-6.12-faulty.jsonl – ept-trace"]);
    assert_eq!(texts(&page, "h1"), ["✕ MISMATCH: 2 rules broken, 9 findings"]);
    let sources = texts(&page, "header .sources").concat();
    assert!(sources.starts_with("vmx5-6.12-faulty.jsonl, Linux 6.12"), "{sources}");
    let counts = texts(&page, "dl.counts div").join(" ");
    for count in ["mismatches9", "undetermined1", "decisions44", "records lost7", "gaps1"] {
        assert!(counts.contains(count), "{counts}");
    }
    let clean = Html::parse_document(&self::page(&clean()));
    assert_eq!(texts(&clean, "h1"), ["✓ clean: 44 decisions, 30 walks, nothing wrong"]);
    assert_eq!(texts(&clean, "#findings article").len(), 0);
}

#[test]
fn findings_have_their_evidence_and_their_mark() {
    let page = Html::parse_document(&page(&faulty()));
    let findings = texts(&page, "#findings article h4");
    assert_eq!(findings.len(), 3, "{findings:?}");
    let evidence = texts(&page, "#findings article tr").join("\n");
    assert!(evidence.contains("MAXPHYADDR52vcpu->arch.maxphyaddr"), "{evidence}");
    let marks = texts(&page, "#timeline svg .mark.mismatch title");
    let of = |rule: &str| marks.iter().filter(|mark| mark.starts_with(rule)).count();
    assert_eq!((of("EPT103 MISMATCH at "), of("EPT202 MISMATCH at ")), (8, 1), "{marks:?}");
}

/// One lane for each vCPU; a VM of two vCPUs is one card.
#[test]
fn the_timeline_has_a_lane_for_each_vcpu() {
    let page = Html::parse_document(&page(&clean()));
    assert_eq!(page.select(&select("#timeline article.vm")).count(), 15);
    assert_eq!(page.select(&select("#timeline .lane")).count(), 19);
    let lanes = attributes(&page, "#timeline .lane svg[role=img]", "aria-label").join("\n");
    let both = "vCPU 0: MAXPHYADDR 36 → 49, level 4 → 5\n\
        vCPU 1: MAXPHYADDR 36 → 49, level 4 → 5";
    assert!(lanes.replace('\u{a0}', " ").contains(both), "{lanes}");
    let nested = Html::parse_document(&self::page(&nested()));
    assert!(nested.select(&select("#timeline .lane circle.nested")).count() > 1);
}

#[test]
fn tables_are_told_by_level_or_by_walks() {
    let mut files = faulty();
    let by_walks = Html::parse_document(&page(&files));
    assert_eq!(texts(&by_walks, "#tables tbody tr"), ["a page of 4 KiB30"]);
    files[0].shape = shape();
    let by_level = texts(&Html::parse_document(&page(&files)), "#tables tbody tr");
    assert_eq!(by_level[..3], ["5256 TiB100 B", "4512 GiB100 B", "31 GiB211 GiB"]);
    assert_eq!(by_level[3..5], ["22 MiB9311622 MiB", "14 KiB14290711 MiB"]);
}
