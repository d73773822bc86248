//! Every command block of every runbook, run against a fleet in that very situation.

mod blocks;
mod situation;

use situation::Situation;

#[test]
fn every_command_block_does_what_its_page_says() {
    let mut fleet = Situation::start();
    fleet.bucket_away();
    fleet.follow_until("bucket-unreachable.md", "## Afterwards");
    fleet.bucket_back();
    fleet.follow_from("bucket-unreachable.md", "## Afterwards");
    fleet.follow("disk-filling.md");
    fleet.bend_object();
    fleet.follow("damaged-objects.md");
    fleet.follow("planned-switchover.md");
    // The way back is another page's; here it only prepares the next situation.
    fleet.home("east");
    fleet.lose("east");
    fleet.follow("unplanned-failover.md");
    fleet.bring_back("east");
    fleet.follow("failback.md");
    fleet.stop();
}

#[test]
fn every_page_has_its_five_parts() {
    for page in blocks::pages() {
        let text = std::fs::read_to_string(&page).unwrap();
        let parts: Vec<&str> = text.lines().filter(|l| l.starts_with("## ")).collect();
        let wanted = [
            "## Meaning",
            "## Impact",
            "## Diagnosis",
            "## Mitigation",
            "## Afterwards",
        ];
        assert_eq!(parts, wanted, "{}", page.display());
        assert!(
            !blocks::of(&text).is_empty(),
            "{} has no commands",
            page.display()
        );
    }
}
