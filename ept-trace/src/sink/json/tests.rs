use std::collections::BTreeSet;

use serde_json::Value;

use super::*;
use crate::sink::text::tests::{of_a_log, stream, summary};

fn lines() -> Vec<String> {
    written(false)
}

fn written(quiet: bool) -> Vec<String> {
    let mut out = Vec::new();
    let mut json = Json::new(&mut out, quiet);
    for judged in stream() {
        json.event(&judged).unwrap();
    }
    json.finish(&summary()).unwrap();
    let text = String::from_utf8(out).unwrap();
    assert!(text.ends_with('\n'));
    text.lines().map(str::to_owned).collect()
}

const WHOLE: &str = r#"{"type":"hook","hook":"kvm_init_mmu","attached":true,"how":"kprobe kvm:kvm_init_mmu"}
{"type":"hook","hook":"init_kvm_tdp_mmu","attached":false,"how":"inlined by the compiler: no such symbol"}
{"type":"not_seen","what":"hardware_setup"}
{"type":"setup","time_ns":1000001000,"what":"facts","facts":{"release":"6.12.0","vendor":"vmx","behaviour":{"has_tdp_root_level":true,"has_max_tdp_level":true,"has_cached_tdp_level":false,"has_maxguestphyaddr":false,"has_guest_mtrr_types":false,"passthrough_bit":null,"invalid_bit":null,"ret_pf":null},"hardware":{"ept_vpid_cap":{"unknown":{"why":"no /dev/cpu/0/msr"}},"offers_ept":{"unknown":{"why":"no /dev/cpu/0/msr"}},"differing_ept_vpid_cap":[],"host_la57":{"known":{"value":false,"origin":"mmap"}},"maxphyaddr":{"unknown":{"why":"not recorded"}}},"kvm":{"tdp_enabled":{"known":{"value":true,"origin":"kcore"}},"max_tdp_level":{"known":{"value":5,"origin":"kcore"}},"tdp_root_level":{"unknown":{"why":"hidden"}},"enable_ept":{"known":{"value":true,"origin":"kcore"}},"vmx_capability_ept":{"known":{"value":192,"origin":"kcore"}},"npt_enabled":{"unknown":{"why":"no kvm_amd"}},"enable_ept_ad_bits":{"unknown":{"why":"not recorded"}},"nested_ept_vpid_cap":{"unknown":{"why":"not recorded"}},"allow_smaller_maxphyaddr":{"unknown":{"why":"not recorded"}},"encryption_mask":{"unknown":{"why":"not recorded"}},"shadow_mmio_value":{"unknown":{"why":"not recorded"}},"shadow_mmio_mask":{"unknown":{"why":"not recorded"}},"shadow_mmu_writable_mask":{"unknown":{"why":"not recorded"}},"tdp_mmu":{"unknown":{"why":"not recorded"}},"nx_huge_pages":{"unknown":{"why":"not recorded"}}}},"verdict":"undetermined","rules":{"EPT106":"undetermined"}}
{"type":"finding","time_ns":1000001000,"rule":"EPT106","verdict":"undetermined","message":"MSR 0x48c: no /dev/cpu/0/msr","evidence":[]}
{"type":"setup","time_ns":1000002000,"what":"hardware_setup","function":"vmx_hardware_setup","verdict":"ok","rules":{}}
{"type":"setup","time_ns":1000003000,"what":"kvm_configure_mmu","arguments":{"enable_tdp":true,"forced_root_level":null,"max_root_level":5,"huge_page_level":3},"verdict":"ok","rules":{"EPT104":"ok"}}
{"type":"decision","time_ns":1000004000,"vm":1,"pid":4242,"vcpu":3,"maxphyaddr":52,"mode":"tdp","root_level":5,"expected_level":5,"verdict":"ok","rules":{"EPT103":"ok"},"observed_by":"kvm_init_mmu return","cpuid":{"entries":30,"max_leaf":8,"address_sizes":null},"direct":null,"page_fault":null,"role_before":"0x0","role":"0x1a5","inputs":{"tdp_enabled":null,"max_tdp_level":5,"tdp_root_level":null,"enable_ept":null,"vmx_capability_ept":null,"npt_enabled":null,"enable_ept_ad_bits":null}}
{"type":"decision","time_ns":1000005000,"vm":1,"pid":4242,"vcpu":3,"maxphyaddr":52,"mode":"tdp","root_level":4,"expected_level":5,"verdict":"mismatch","rules":{"EPT103":"mismatch"},"observed_by":"kvm_init_mmu return","cpuid":{"entries":30,"max_leaf":8,"address_sizes":null},"direct":null,"page_fault":null,"role_before":"0x0","role":"0x1a5","inputs":{"tdp_enabled":null,"max_tdp_level":5,"tdp_root_level":null,"enable_ept":null,"vmx_capability_ept":null,"npt_enabled":null,"enable_ept_ad_bits":null}}
{"type":"finding","time_ns":1000005000,"rule":"EPT103","verdict":"mismatch","message":"root level is 4, should be 5","evidence":[{"what":"root level","value":"4","origin":"kvm_init_mmu return"},{"what":"max_tdp_level","value":"5","origin":"read at the decision"}]}
{"type":"root","time_ns":1000006000,"vm":1,"pid":4242,"vcpu":3,"gfn":0,"level":5,"root_level":5,"verdict":"ok","rules":{"EPT103":"ok"}}
{"type":"decision","time_ns":1000007000,"vm":0,"pid":0,"vcpu":0,"maxphyaddr":null,"mode":null,"root_level":null,"expected_level":null,"verdict":"undetermined","rules":{"EPT101":"undetermined"},"observed_by":"","cpuid":null,"direct":null,"page_fault":null,"role_before":null,"role":"0x0","inputs":{"tdp_enabled":null,"max_tdp_level":null,"tdp_root_level":null,"enable_ept":null,"vmx_capability_ept":null,"npt_enabled":null,"enable_ept_ad_bits":null}}
{"type":"finding","time_ns":1000007000,"rule":"EPT101","verdict":"undetermined","message":"nothing was read","evidence":[]}
{"type":"setup","time_ns":1000008000,"what":"facts","facts":{"release":"6.12.0","vendor":"vmx","behaviour":{"has_tdp_root_level":true,"has_max_tdp_level":true,"has_cached_tdp_level":false,"has_maxguestphyaddr":false,"has_guest_mtrr_types":false,"passthrough_bit":null,"invalid_bit":null,"ret_pf":null},"hardware":{"ept_vpid_cap":{"unknown":{"why":"no /dev/cpu/0/msr"}},"offers_ept":{"unknown":{"why":"no /dev/cpu/0/msr"}},"differing_ept_vpid_cap":[],"host_la57":{"known":{"value":false,"origin":"mmap"}},"maxphyaddr":{"unknown":{"why":"not recorded"}}},"kvm":{"tdp_enabled":{"known":{"value":true,"origin":"kcore"}},"max_tdp_level":{"known":{"value":5,"origin":"kcore"}},"tdp_root_level":{"unknown":{"why":"hidden"}},"enable_ept":{"known":{"value":true,"origin":"kcore"}},"vmx_capability_ept":{"known":{"value":192,"origin":"kcore"}},"npt_enabled":{"unknown":{"why":"no kvm_amd"}},"enable_ept_ad_bits":{"unknown":{"why":"not recorded"}},"nested_ept_vpid_cap":{"unknown":{"why":"not recorded"}},"allow_smaller_maxphyaddr":{"unknown":{"why":"not recorded"}},"encryption_mask":{"unknown":{"why":"not recorded"}},"shadow_mmio_value":{"unknown":{"why":"not recorded"}},"shadow_mmio_mask":{"unknown":{"why":"not recorded"}},"shadow_mmu_writable_mask":{"unknown":{"why":"not recorded"}},"tdp_mmu":{"unknown":{"why":"not recorded"}},"nx_huge_pages":{"unknown":{"why":"not recorded"}}}},"verdict":"undetermined","rules":{"EPT106":"undetermined"}}
{"type":"finding","time_ns":1000008000,"rule":"EPT106","verdict":"undetermined","message":"MSR 0x48c: no /dev/cpu/0/msr","evidence":[]}
{"type":"loss","time_ns":1000009000,"hook":"kvm_init_mmu","records":7}
{"type":"gap","time_ns":1000010000,"reason":"kvm was loaded again"}
{"type":"eptp","time_ns":1000011000,"vm":1,"pid":4242,"vcpu":3,"maxphyaddr":52,"nested":false,"eptp":"0x12345066","root_hpa":"0x12345000","level":5,"mmu_root_level":5,"page_level":5,"verdict":"ok","rules":{"EPT202":"ok"},"observed_by":"vmwrite EPT_POINTER"}
{"type":"ncr3","time_ns":1000012000,"vm":1,"pid":4242,"vcpu":3,"maxphyaddr":52,"nested":true,"root_hpa":"0x12345000","level":5,"mmu_root_level":5,"page_level":null,"verdict":"ok","rules":{},"observed_by":"vmwrite EPT_POINTER"}
{"type":"shadow_mmu","time_ns":1000013000,"vm":1,"pid":4242,"vcpu":3,"maxphyaddr":52,"shadows":"ept","eptp12":"0x5e","shown_ept_capability":"0x141","root_level":4,"walk_level":4,"direct":false,"verdict":"ok","rules":{},"observed_by":"the hook"}
{"type":"shadow_mmu","time_ns":1000014000,"vm":1,"pid":4242,"vcpu":3,"maxphyaddr":52,"shadows":"npt","l1_cr4":"0x20","root_level":4,"walk_level":4,"direct":false,"verdict":"ok","rules":{},"observed_by":"the hook"}
{"type":"fault_loop","time_ns":1000015000,"vm":1,"pid":4242,"vcpu":3,"gpa":"0x1000000000000","error_code":"0x6","answer":4,"count":256,"for_ns":1000000,"root_level":4,"verdict":"ok","rules":{}}
{"type":"vm_gone","time_ns":1000016000,"vm":1}
{"type":"walk","time_ns":1000017000,"vm":1,"pid":4242,"vcpu":3,"gpa":"0x3000","error_code":"0x2","nested":false,"root_hpa":"0x5000","root_level":4,"entries":["0x6907","0x8000000000000000"],"answer":5,"result":1,"requested":{"gfn":3,"pfn":74565,"level":1},"outcome":"not_present","races":["notifier"],"verdict":"ok","rules":{},"observed_by":"the hook"}
{"type":"summary","decisions":3,"walks":1,"spte_changes":0,"mismatches":1,"undetermined":3,"advisories":0,"lost":7,"gaps":1,"hooks":[{"hook":"kvm_init_mmu","fired":10,"delivered":2,"filtered":1,"dropped":4,"missed":3}]}
"#;

#[test]
fn a_stream_is_written_as_here() {
    let lines = lines();
    for (line, expected) in lines.iter().zip(WHOLE.lines()) {
        assert_eq!(line, expected);
    }
    assert_eq!(lines.len(), WHOLE.lines().count());
}

#[test]
fn quiet_leaves_out_what_is_ok_and_nothing_else() {
    let quiet: Vec<Value> =
        written(true).iter().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert!(quiet.iter().all(|line| line["verdict"] != "ok" && line["type"] != "hook"));
    let count = |kind: &str| quiet.iter().filter(|line| line["type"] == kind).count();
    assert_eq!(["finding", "loss", "gap", "summary"].map(count), [4, 1, 1, 1]);
}

#[test]
fn every_line_is_an_object_with_its_type() {
    const TYPES: &[&str] = &[
        "hook",
        "not_seen",
        "setup",
        "decision",
        "root",
        "eptp",
        "ncr3",
        "shadow_mmu",
        "fault_loop",
        "vm_gone",
        "walk",
        "finding",
        "loss",
        "gap",
        "summary",
    ];
    let mut seen = BTreeSet::new();
    for line in lines() {
        let object: Value = serde_json::from_str(&line).unwrap();
        let kind = object["type"].as_str().unwrap_or_else(|| panic!("no type: {line}"));
        assert!(TYPES.contains(&kind), "{kind} is not documented");
        seen.insert(kind.to_owned());
    }
    assert_eq!(seen.len(), TYPES.len(), "the stream has one of each");
}

#[test]
fn every_verdict_but_ok_is_a_finding() {
    let lines: Vec<Value> =
        lines().iter().map(|line| serde_json::from_str(line).unwrap()).collect();
    for (number, object) in lines.iter().enumerate() {
        let is_judged = object["type"] != "finding" && object["rules"].is_object();
        if is_judged && object["verdict"] != "ok" {
            let finding = &lines[number + 1];
            assert_eq!(finding["type"], "finding");
            assert_eq!(finding["verdict"], object["verdict"]);
            assert_eq!(finding["time_ns"], object["time_ns"]);
        }
    }
}

#[test]
fn a_log_tells_of_no_vm() {
    let mut out = Vec::new();
    let mut json = Json::new(&mut out, false);
    for judged in of_a_log() {
        json.event(&judged).unwrap();
    }
    let text = String::from_utf8(out).unwrap();
    let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!((&lines[0]["type"], &lines[0]["by"]), (&"complaint".into(), &"qemu".into()));
    assert_eq!((&lines[1]["type"], &lines[1]["eptp"]), (&"vmcs_dump".into(), &"0x5e".into()));
    assert_eq!(lines[1]["exit_reason"], "0x80000021");
    for member in ["vm", "pid", "vcpu", "error_code", "result", "root_hpa"] {
        assert_eq!(lines[3].get(member), Some(&Value::Null), "{member}");
    }
    assert_eq!((&lines[3]["type"], &lines[3]["gpa"]), (&"walk".into(), &"0xfee00000".into()));
}
