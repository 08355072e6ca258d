//! The project's own chores: `cargo xtask bench NAME`.

mod bench;
mod storeys;

fn main() -> anyhow::Result<()> {
    let mut arguments = std::env::args().skip(1);
    match arguments.next().as_deref() {
        Some("bench") => bench::run(arguments.collect()),
        Some("storeys") => storeys::check(),
        _ => anyhow::bail!("usage: cargo xtask bench NAME | cargo xtask storeys"),
    }
}
