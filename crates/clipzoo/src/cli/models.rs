//! `clipzoo models`: what this program knows.

use clip_core::serde_json::json;
use clip_nn::tch;

use super::Cli;
use super::args::print;
use super::failure::Outcome;

/// Flags of `models`.
#[derive(clap::Args)]
#[command(after_help = "Example:\n  clipzoo models --json")]
pub(crate) struct Args {
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(cli: &Cli, args: Args) -> Outcome {
    let cuda = if tch::Cuda::is_available() {
        tch::Cuda::device_count()
    } else {
        0
    };
    let lists: [(&str, Vec<&str>); 5] = [
        ("image_backbones", cli.zoo.image_backbones().collect()),
        ("text_backbones", cli.zoo.text_backbones().collect()),
        ("families", cli.families.names().collect()),
        ("objectives", cli.zoo.objectives().names().collect()),
        ("tokenizers", cli.zoo.tokenizers().names().collect()),
    ];
    if args.json {
        let layouts: Vec<_> = cli
            .families
            .iter()
            .map(|family| json!({ "name": family.name(), "short_name": family.short_name(), "mark": family.mark() }))
            .collect();
        let mut object = json!({ "cuda_devices": cuda, "layouts": layouts });
        for (name, parts) in &lists {
            object[*name] = json!(parts);
        }
        return Ok(print(&object.to_string())?);
    }
    // A list without entries is of parts that only somebody else's crate brings.
    for (name, parts) in lists.iter().filter(|(_, parts)| !parts.is_empty()) {
        print(&format!("{:<17}{}", name.replace('_', " "), parts.join(", ")))?;
    }
    print(&format!("{:<17}{cuda}", "CUDA devices"))?;
    print("\nlayouts of checkpoints: what `convert --to` takes, the family, what it is recognised by")?;
    let mut families: Vec<_> = cli.families.iter().collect();
    families.sort_by_key(|family| (family.short_name(), family.name()));
    for family in families {
        print(&format!(
            "  {:<20}{:<26}{}",
            family.short_name(),
            family.name(),
            family.mark()
        ))?;
    }
    Ok(())
}
