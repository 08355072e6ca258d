//! `corral function`.

use std::io::Read;
use std::path::PathBuf;

use anyhow::Context as _;
use clap::{Args, Subcommand};
use corral_server::api::{CallDetail, CallRequest, FunctionDetail, Page};
use corral_types::{ErrorKind, Failure, display_bytes};
use serde_json::{Map, Value};

use super::Context;
use super::app::EnvironmentArgs;
use super::call::{finished, show_result};
use super::train::parse_seconds;
use crate::failure::refusal;
use crate::output::{fields, table};

#[derive(Debug, Subcommand)]
pub enum FunctionCommand {
    /// List the functions of apps that have not ended
    Ls {
        /// Only those of this app
        app: Option<String>,
        #[command(flatten)]
        environment: EnvironmentArgs,
    },
    /// What a function asks for and how it is doing
    Stats {
        app: String,
        function: String,
        #[command(flatten)]
        environment: EnvironmentArgs,
    },
    /// Call a function with JSON and print what it returns
    Call(CallArgs),
}

#[derive(Debug, Args)]
pub struct CallArgs {
    app: String,
    /// Its name in the app; CLASS.METHOD for a method of a class
    function: String,
    /// Arguments by place, each a JSON value; what is none is taken as a text
    args: Vec<String>,
    /// An argument by name, its value as above
    #[arg(short, long = "kwarg", value_name = "NAME=VALUE")]
    kwargs: Vec<String>,
    /// Read all arguments from a file as {"args": […], "kwargs": {…}}, `-` for standard input
    #[arg(long, value_name = "FILE", conflicts_with_all = ["args", "kwargs"])]
    input: Option<PathBuf>,
    /// Print the call's id and do not wait; `corral call get` has the result
    #[arg(long)]
    no_wait: bool,
    /// How long to wait for the result; the call goes on after it
    #[arg(long, value_name = "TIME", default_value = "1d")]
    timeout: String,
    #[command(flatten)]
    environment: EnvironmentArgs,
}

pub async fn run(command: FunctionCommand, context: &Context) -> anyhow::Result<()> {
    let client = context.client()?;
    match command {
        FunctionCommand::Ls { app, environment } => {
            let mut query = environment.query();
            query.extend(app.map(|app| ("app", app)));
            let query: Vec<_> = query.iter().map(|(key, value)| (*key, value.as_str())).collect();
            let items: Vec<FunctionDetail> =
                client.list_where(&["v1", "functions"], &query).await?;
            context.output.show(&Page { items, next: None }, |page| list_text(&page.items));
        }
        FunctionCommand::Stats { app, function, environment } => {
            let request =
                client.get(&["v1", "functions", &app, &function]).query(&environment.query());
            context.output.show(&client.json::<FunctionDetail>(request).await?, describe);
        }
        FunctionCommand::Call(args) => call(args, context).await?,
    }
    Ok(())
}

async fn call(args: CallArgs, context: &Context) -> anyhow::Result<()> {
    let client = context.client()?;
    let patience = parse_seconds(&args.timeout)?;
    let mut request = match &args.input {
        Some(path) => read_arguments(path)?,
        None => CallRequest {
            args: args.args.iter().map(|text| argument(text)).collect(),
            kwargs: by_name(&args.kwargs)?,
            ..CallRequest::default()
        },
    };
    // Made first and waited for then: a call that was accepted has an id to come back to.
    request.wait = Some(false);
    let path = ["v1", "functions", &args.app, &args.function, "calls"];
    let made = client.post(&path).query(&args.environment.query()).json(&request);
    let made: CallDetail = client.json(made).await?;
    if args.no_wait {
        context.output.show(&made, |call| call.id.clone());
        return Ok(());
    }
    let done = finished(&client, &made.id, patience).await?;
    show_result(context, &done)
}

/// A JSON value, or the text itself.
fn argument(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|_| Value::String(text.to_owned()))
}

fn by_name(pairs: &[String]) -> anyhow::Result<Map<String, Value>> {
    let mut named = Map::new();
    for pair in pairs {
        let Some((name, value)) = pair.split_once('=') else {
            let message = format!("`{pair}` is not of the form NAME=VALUE");
            return Err(refusal(Failure::new(ErrorKind::Invalid, message)));
        };
        named.insert(name.to_owned(), argument(value));
    }
    Ok(named)
}

fn read_arguments(path: &PathBuf) -> anyhow::Result<CallRequest> {
    let mut text = String::new();
    if path.as_os_str() == "-" {
        std::io::stdin().read_to_string(&mut text).context("read standard input")?;
    } else {
        text = std::fs::read_to_string(path)
            .with_context(|| format!("read the arguments in {}", path.display()))?;
    }
    serde_json::from_str(&text).map_err(|error| {
        let message = format!("the arguments in {} cannot be read: {error}", path.display());
        let hint = r#"write them as {"args": [1, "two"], "kwargs": {"name": true}}"#;
        refusal(Failure::new(ErrorKind::Invalid, message).with_hint(hint))
    })
}

fn list_text(functions: &[FunctionDetail]) -> String {
    let rows = functions.iter().map(|function| {
        [
            function.app.clone(),
            function.name.clone(),
            function.id.clone(),
            function.now.containers.to_string(),
            function.now.running_inputs.to_string(),
            function.now.backlog.to_string(),
        ]
    });
    table(["app", "function", "id", "#containers", "#running", "#waiting"], rows)
}

fn describe(function: &FunctionDetail) -> String {
    let FunctionDetail { settings, now, .. } = function;
    let chosen = || "chosen by the server".to_owned();
    let mut pairs = vec![
        ("function", format!("{} of {}", function.name, function.app)),
        ("id", function.id.clone()),
        ("kind", function.kind.clone()),
        ("client", function.client_version.clone()),
        ("JSON", if function.takes_json { "yes" } else { "no" }.to_owned()),
        ("waiting", now.backlog.to_string()),
        ("running", now.running_inputs.to_string()),
        (
            "containers",
            format!(
                "{}, {} starting, {} idle",
                now.containers, now.starting_containers, now.idle_containers
            ),
        ),
        (
            "scaling",
            format!(
                "{} to {}, buffer {}, idle for {} s",
                settings.min_containers,
                settings.max_containers,
                settings.buffer_containers,
                settings.scaledown_window_seconds
            ),
        ),
        ("at once", settings.max_concurrent_inputs.to_string()),
        ("CPU", settings.cpu.map_or_else(chosen, |cpu| cpu.to_string())),
        ("memory asked", settings.memory_request_bytes.map_or_else(chosen, display_bytes)),
        ("memory limit", settings.memory_limit_bytes.map_or_else(chosen, display_bytes)),
        ("time limit", format!("{} s", settings.timeout_seconds)),
        ("retries", settings.retries.to_string()),
    ];
    if settings.gpus > 0 {
        pairs.push(("GPUs", settings.gpus.to_string()));
    }
    pairs.extend(settings.batch_max_size.map(|size| ("batches of", size.to_string())));
    fields(pairs)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn arguments_are_json_or_text() {
        let read = ["1", "[2,3]", "\"4\"", "hello", "true", "{broken"].map(argument);
        assert_eq!(
            read.to_vec(),
            json!([1, [2, 3], "4", "hello", true, "{broken"]).as_array().unwrap().clone()
        );
        let named = by_name(&["a=1".to_owned(), "b=x=y".to_owned()]).unwrap();
        assert_eq!(Value::Object(named), json!({"a": 1, "b": "x=y"}));
        assert!(by_name(&["a".to_owned()]).is_err());
    }
}
