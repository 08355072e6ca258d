//! `corral doctor`.

use std::path::PathBuf;

use anyhow::Context as _;
use clap::Args;
use corral_server::api::WhoAmI;
use corral_types::display_bytes;
use corral_worker::{
    BaseChoice, ContainerInspection, IdMapping, ImageSurvey, Isolation,
    IsolationUnavailable as Unavailable, WorkerInspection, inspect_containers, survey_images,
};
use serde_json::{Value, json};

use super::Context;
use crate::output::fields;

#[derive(Debug, Args)]
pub struct DoctorArgs {
    /// The data directory whose disk is looked at
    #[arg(long, value_name = "DIR", default_value = ".")]
    data_dir: PathBuf,
}

pub async fn run(args: DoctorArgs, context: &Context) -> anyhow::Result<()> {
    let machine = corral_worker::inspect(&args.data_dir);
    let server = look_at_server(context).await;
    let executable = std::env::current_exe().context("find the path of this binary")?;
    let images = args.data_dir.join("worker/images");
    let (containers, images) = tokio::task::spawn_blocking(move || {
        (inspect_containers(&executable), survey_images(&images, BaseChoice::Auto))
    })
    .await?;
    let containers = containers.context("try a container")?;
    let whole = json!({
        "machine": describe(&machine),
        "containers": describe_containers(&containers, &images),
        "server": server,
    });
    context.output.show(&whole, |_| {
        let mut text = fields([
            ("host", machine.host_name.clone()),
            ("memory", display_bytes(machine.memory_bytes)),
            ("free memory", display_bytes(machine.free_memory_bytes)),
            ("reserve", format!("{} left to the rest", display_bytes(machine.reserve_bytes))),
            ("cores", format!("{:.1}", f64::from(machine.milli_cpu) / 1000.0)),
            ("free disk", display_bytes(machine.free_disk_bytes)),
        ]);
        text += "\nlimits on tasks, the strongest first:\n";
        for finding in &machine.enforcement {
            let state = match &finding.unavailable {
                None => "works".to_owned(),
                Some(why) => {
                    format!("not here: {}\n             to allow it: {}", why.reason, why.setting)
                }
            };
            text += &format!("  {:<10} {state}\n", word(&json!(finding.kind)));
        }
        text += &words_of_containers(&containers, &images);
        text += "\nserver\n";
        for (key, value) in server.as_object().into_iter().flatten() {
            text += &format!("  {key}: {}\n", word(value));
        }
        text
    });
    Ok(())
}

fn describe(machine: &WorkerInspection) -> Value {
    let findings = machine.enforcement.iter().map(|finding| {
        json!({
            "kind": finding.kind,
            "works": finding.unavailable.is_none(),
            "why_not": finding.unavailable.as_ref().map(|why| &why.reason),
            "setting": finding.unavailable.as_ref().map(|why| &why.setting),
        })
    });
    json!({
        "host_name": machine.host_name,
        "memory_bytes": machine.memory_bytes,
        "free_memory_bytes": machine.free_memory_bytes,
        "reserve_bytes": machine.reserve_bytes,
        "milli_cpu": machine.milli_cpu,
        "free_disk_bytes": machine.free_disk_bytes,
        "enforcement": findings.collect::<Vec<_>>(),
    })
}

/// What containers and images this machine can have, in lines.
fn words_of_containers(containers: &ContainerInspection, images: &ImageSurvey) -> String {
    let not_here = |why: &Unavailable| {
        format!("not here: {}\n             to allow it: {}", why.reason, why.setting)
    };
    let isolation = match &containers.no_namespaces {
        None => "namespaces: each container is kept apart".to_owned(),
        Some(why) => format!(
            "process: limits alone, nothing between containers\n  namespaces {}",
            not_here(why)
        ),
    };
    let network = containers.no_network.as_ref().map_or_else(|| "outbound".to_owned(), not_here);
    let users = match containers.ids {
        IdMapping::Shifted => "all that images expect",
        IdMapping::Own => "root alone: run as root for all that images expect",
    };
    let mut text = format!(
        "\ncontainers of functions\n  isolation  {isolation}\n  network    {network}\n  users      {users}\n"
    );
    text += "\nPythons that images can have\n";
    for offer in &images.pythons {
        let ready = if offer.ready { "ready" } else { "made when it is first asked for" };
        text += &format!("  {:<10} {} ({ready})\n", offer.series, offer.base);
    }
    for why in &images.missing {
        text += &format!("  not here: {why}\n");
    }
    text
}

fn describe_containers(containers: &ContainerInspection, images: &ImageSurvey) -> Value {
    let why = |why: &Option<Unavailable>| {
        why.as_ref().map(|why| json!({"why_not": why.reason, "setting": why.setting}))
    };
    let pythons = images
        .pythons
        .iter()
        .map(|offer| json!({"series": offer.series, "base": offer.base, "ready": offer.ready}));
    json!({
        "isolation": match containers.isolation {
            Isolation::Namespaces => "namespaces",
            Isolation::Process => "process",
        },
        "no_namespaces": why(&containers.no_namespaces),
        "no_network": why(&containers.no_network),
        "all_users": containers.ids == IdMapping::Shifted,
        "pythons": pythons.collect::<Vec<_>>(),
        "missing_bases": images.missing,
    })
}

/// Whether a server answers, whether it is ready, and whether the token opens it.
async fn look_at_server(context: &Context) -> Value {
    let client = match context.client() {
        Ok(client) => client,
        Err(error) => return json!({"address": error.to_string()}),
    };
    let address = client.base().to_string();
    let ready: anyhow::Result<Value> = client.json(client.get(&["readyz"])).await;
    let ready = match ready {
        Ok(_) => "yes".to_owned(),
        Err(error) => format!("no: {error}"),
    };
    let who: anyhow::Result<WhoAmI> = client.json(client.get(&["v1", "whoami"])).await;
    let token = match who {
        Ok(who) => format!("{} in the workspace {}", who.scopes.join(", "), who.workspace),
        Err(error) => format!("no: {error}"),
    };
    json!({"address": address, "ready": ready, "token": token})
}

/// A JSON text without its quotes.
fn word(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}
