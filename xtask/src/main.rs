//! The project's own chores: `cargo xtask bench NAME`, `cargo xtask soak`.

mod bench;
mod storeys;

fn main() -> anyhow::Result<()> {
    let mut arguments = std::env::args().skip(1);
    match arguments.next().as_deref() {
        Some("bench") => bench::run(arguments.collect()),
        Some(bench::functions::minimal::COMMAND) => {
            bench::functions::minimal::run(&arguments.collect::<Vec<_>>())
        }
        Some("soak") => bench::functions::soak::run(&arguments.collect::<Vec<_>>()),
        Some("storeys") => storeys::check(),
        _ => anyhow::bail!(
            "usage: cargo xtask bench NAME | cargo xtask soak [MINUTES] | cargo xtask storeys"
        ),
    }
}
