//! `corral doctor`.

use std::path::PathBuf;

use clap::Args;
use corral_server::api::WhoAmI;
use corral_types::display_bytes;
use corral_worker::WorkerInspection;
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
    let whole = json!({"machine": describe(&machine), "server": server});
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
