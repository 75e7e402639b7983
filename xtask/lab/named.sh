#!/bin/sh
# named DIR: which rules the reports in DIR name, each in a file that is called like its format; a line
# for each format, and one for each rule in it:
#   named: tap
#   named: tap MISMATCH EPT305
# A rule that holds is in most of them too, so each is read by its own form. Written in a script of its
# own, so that what reads the reports is not what wrote them.
for file in "$1"/*; do
    format=${file##*/}
    echo "named: $format"
    awk -v format="$format" '
        function name(verdict, rule) { print "named: " format " " verdict " " rule }
        function rule(line) { match(line, /EPT[0-9][0-9][0-9]/); return substr(line, RSTART, RLENGTH) }
        function verdict(line) { return line ~ /MISMATCH/ ? "MISMATCH" : "advisory" }
        format == "text" && /^  EPT.*  (MISMATCH|advisory): / { name(verdict($0), rule($0)) }
        # The YAML comes after its point.
        format == "tap" && /^(not )?ok / { point = rule($0) }
        format == "tap" && /verdict: "(MISMATCH|advisory)"/ { name(verdict($0), point) }
        # Diagnostic lines come before their point.
        format == "ktap" && /^#   (MISMATCH|advisory): / { said = verdict($0) }
        format == "ktap" && /^(not )?ok / { if (said) name(said, rule($0)); said = "" }
        format == "junit" && /<testcase / { point = rule($0) }
        format == "junit" && point && /(^|>)(MISMATCH|advisory): / { name(verdict($0), point) }
        # What comes after is of the whole.
        format == "junit" && /<testcase .*\/>|<\/testcase>/ { point = "" }
        format == "sarif" && /"level": / { level = $2 }
        format == "sarif" && /"ruleId": "EPT/ && level ~ /error/ { name("MISMATCH", rule($0)) }
        format == "sarif" && /"ruleId": "EPT/ && level ~ /warning/ { name("advisory", rule($0)) }
        format == "github" && /^::error title=EPT/ { name("MISMATCH", rule($0)) }
        format == "github" && /^::warning title=EPT/ { name("advisory", rule($0)) }
        format == "html" {
            page = $0
            while (match(page, /<h3>EPT[0-9]*|<h4><span class="badge (mismatch|advisory)"/)) {
                found = substr(page, RSTART, RLENGTH)
                page = substr(page, RSTART + RLENGTH)
                if (found ~ /^<h3>/) point = rule(found)
                else name(found ~ /mismatch/ ? "MISMATCH" : "advisory", point)
            }
        }
    ' "$file" | sort -u
done
