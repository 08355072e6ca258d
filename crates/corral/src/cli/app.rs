//! `corral app`.

use clap::{Args, Subcommand};
use corral_server::api::{
    AppDetail, AppLogLine, AppLogPage, AppVersionDetail, Page, RollbackRequest,
};

use super::Context;
use super::train::parse_seconds;
use crate::client::Client;
use crate::output::{Output, fields, print_line, print_text, table};

/// How long one request for lines that are followed waits: less than the server does at most.
const FOLLOW_WAIT_SECONDS: u64 = 25;

#[derive(Debug, Subcommand)]
pub enum AppCommand {
    /// List the apps, newest first
    Ls {
        #[command(flatten)]
        environment: EnvironmentArgs,
        /// Only those in this state: ephemeral, detached, deployed, stopped
        #[arg(long)]
        state: Option<String>,
        /// Also those that were stopped in the last month
        #[arg(long, conflicts_with = "state")]
        all: bool,
    },
    /// Show one app, by its name or id
    Show {
        app: String,
        #[command(flatten)]
        environment: EnvironmentArgs,
    },
    /// Print what an app's containers wrote
    Logs(AppLogsArgs),
    /// End an app: its containers and unfinished calls
    Stop {
        app: String,
        #[command(flatten)]
        environment: EnvironmentArgs,
    },
    /// List the versions of an app, newest first
    History {
        app: String,
        #[command(flatten)]
        environment: EnvironmentArgs,
    },
    /// Bring an earlier version of an app back
    Rollback {
        app: String,
        /// The version; the one before the present one when absent
        #[arg(value_name = "VERSION")]
        to: Option<i64>,
        #[command(flatten)]
        environment: EnvironmentArgs,
    },
}

#[derive(Clone, Debug, Default, Args)]
pub struct EnvironmentArgs {
    /// The environment [default: default]
    #[arg(long = "env", value_name = "NAME")]
    environment: Option<String>,
}

impl EnvironmentArgs {
    /// As the query of a request.
    pub fn query(&self) -> Vec<(&'static str, String)> {
        self.environment.iter().map(|name| ("environment", name.clone())).collect()
    }
}

#[derive(Debug, Args)]
pub struct AppLogsArgs {
    app: String,
    #[command(flatten)]
    environment: EnvironmentArgs,
    #[command(flatten)]
    lines: LinesArgs,
    /// Only lines that are at most so old, such as 2h
    #[arg(long, value_name = "TIME")]
    since: Option<String>,
    /// Only lines of this function
    #[arg(long)]
    function: Option<String>,
    /// Only lines of this container
    #[arg(long)]
    container: Option<String>,
    /// Only lines written for this call
    #[arg(long)]
    call: Option<String>,
    /// Only lines that contain this
    #[arg(long)]
    search: Option<String>,
}

/// Which lines of a log, and how they are written.
#[derive(Clone, Copy, Debug, Args)]
pub struct LinesArgs {
    /// The newest so many lines, at most 5000
    #[arg(short = 'n', long, default_value_t = 100)]
    tail: u32,
    /// Go on with lines as they come
    #[arg(short, long)]
    follow: bool,
    /// Put time and container before each line
    #[arg(short = 'l', long)]
    long: bool,
}

pub async fn run(command: AppCommand, context: &Context) -> anyhow::Result<()> {
    let client = context.client()?;
    match command {
        AppCommand::Ls { environment, state, all } => {
            let mut query = environment.query();
            query.extend(state.clone().map(|state| ("state", state)));
            let query: Vec<_> = query.iter().map(|(key, value)| (*key, value.as_str())).collect();
            let mut items: Vec<AppDetail> = client.list_where(&["v1", "apps"], &query).await?;
            items.retain(|app| all || state.is_some() || app.state != "stopped");
            context.output.show(&Page { items, next: None }, |page| list_text(&page.items));
        }
        AppCommand::Show { app, environment } => {
            let request = client.get(&["v1", "apps", &app]).query(&environment.query());
            context.output.show(&client.json::<AppDetail>(request).await?, describe);
        }
        AppCommand::Logs(args) => {
            let mut query = args.environment.query();
            if let Some(since) = &args.since {
                query.push(("since_seconds", parse_seconds(since)?.to_string()));
            }
            let chosen = [
                ("function", args.function),
                ("container", args.container),
                ("call", args.call),
                ("text", args.search),
            ];
            query.extend(chosen.into_iter().filter_map(|(key, value)| Some((key, value?))));
            let path = ["v1", "apps", &args.app, "logs"];
            print_log(&client, context.output, &path, &query, args.lines).await?;
        }
        AppCommand::Stop { app, environment } => {
            let request = client.post(&["v1", "apps", &app, "stop"]).query(&environment.query());
            let detail: AppDetail = client.json(request).await?;
            context.output.show(&detail, |app| format!("{} is {}", app.id, app.state));
        }
        AppCommand::History { app, environment } => {
            let request = client.get(&["v1", "apps", &app, "history"]).query(&environment.query());
            let page: Page<AppVersionDetail> = client.json(request).await?;
            context.output.show(&page, |page| {
                let rows = page.items.iter().map(|version| {
                    let how = match version.rolled_back_to {
                        Some(to) => format!("{} to {to}", version.kind),
                        None => version.kind.clone(),
                    };
                    [
                        version.version.to_string(),
                        version.created.clone(),
                        how,
                        version.client_version.clone(),
                        version.tag.clone(),
                        version.functions.join(" "),
                    ]
                });
                table(["#version", "created", "how", "client", "tag", "functions"], rows)
            });
        }
        AppCommand::Rollback { app, to, environment } => {
            let request = client
                .post(&["v1", "apps", &app, "rollback"])
                .query(&environment.query())
                .json(&RollbackRequest { version: to });
            let detail: AppDetail = client.json(request).await?;
            context.output.show(&detail, |app| {
                let name = app.name.as_ref().unwrap_or(&app.id);
                format!("{name} is at version {}", app.version)
            });
        }
    }
    Ok(())
}

/// Prints the newest lines of a log, and with `--follow` those that come.
///
/// # Errors
/// The server's refusal, or why it could not be asked.
pub async fn print_log(
    client: &Client,
    output: Output,
    path: &[&str],
    query: &[(&str, String)],
    lines: LinesArgs,
) -> anyhow::Result<()> {
    let request = client.get(path).query(query).query(&[("tail", lines.tail)]);
    let mut page: AppLogPage = client.json(request).await?;
    let mut written = Written::default();
    loop {
        for line in &page.lines {
            match output {
                Output::Json => print_line(&serde_json::to_string(line)?),
                Output::Text => print_text(&written.next(line, lines.long)),
            }
        }
        if !lines.follow {
            print_text(written.end());
            return Ok(());
        }
        let place = [("after", page.next), ("wait_seconds", FOLLOW_WAIT_SECONDS)];
        page = client.json(client.get(path).query(query).query(&place)).await?;
    }
}

/// How far the output is: what containers write comes in pieces, which need not be whole lines.
#[derive(Debug, Default)]
struct Written {
    /// Who wrote a line that has no end yet.
    open: Option<Option<String>>,
}

impl Written {
    /// A piece as it is to be written: pieces of several containers share no line.
    fn next(&mut self, piece: &AppLogLine, long: bool) -> String {
        let mut text = String::new();
        let goes_on = self.open.as_ref() == Some(&piece.container);
        if !goes_on {
            text += self.end();
            if long {
                let container = piece.container.as_deref().unwrap_or("corral");
                text = format!("{text}{} {container} ", piece.at);
            }
        }
        text += &piece.text;
        self.open = (!text.ends_with('\n')).then(|| piece.container.clone());
        text
    }

    /// The end of a line that has none yet.
    fn end(&mut self) -> &'static str {
        if self.open.take().is_some() { "\n" } else { "" }
    }
}

fn list_text(apps: &[AppDetail]) -> String {
    let rows = apps.iter().map(|app| {
        [
            app.id.clone(),
            app.name.clone().unwrap_or_else(|| app.description.clone()),
            app.state.clone(),
            app.version.to_string(),
            app.containers.to_string(),
            app.created.clone(),
        ]
    });
    table(["id", "name", "state", "#version", "#containers", "created"], rows)
}

fn describe(app: &AppDetail) -> String {
    let mut pairs = vec![
        ("app", app.id.clone()),
        ("name", app.name.clone().unwrap_or_else(|| app.description.clone())),
        ("environment", app.environment.clone()),
        ("state", app.state.clone()),
        ("version", app.version.to_string()),
        ("client", app.client_version.clone()),
        ("containers", app.containers.to_string()),
        ("functions", app.functions.join(", ")),
        ("created", app.created.clone()),
    ];
    pairs.extend(app.deployed.clone().map(|time| ("deployed", time)));
    pairs.extend(app.ended.clone().map(|time| ("ended", time)));
    pairs.extend(app.end_reason.clone().map(|reason| ("why it ended", reason)));
    let tags: Vec<String> = app.tags.iter().map(|(key, value)| format!("{key}={value}")).collect();
    if !tags.is_empty() {
        pairs.push(("tags", tags.join(", ")));
    }
    fields(pairs)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn piece(container: &str, text: &str) -> AppLogLine {
        AppLogLine {
            number: 1,
            at: "NOW".to_owned(),
            stream: "stdout".to_owned(),
            text: text.to_owned(),
            container: (!container.is_empty()).then(|| container.to_owned()),
            function: None,
            call: None,
        }
    }

    fn write(pieces: &[(&str, &str)], long: bool) -> String {
        let mut written = Written::default();
        let pieces = pieces.iter().map(|(container, text)| piece(container, text));
        let mut text: String = pieces.map(|piece| written.next(&piece, long)).collect();
        text += written.end();
        text
    }

    #[test]
    fn pieces_become_lines() {
        let pieces = [("a", "one "), ("a", "line\n"), ("b", "half"), ("a", "\n"), ("", "ended")];
        assert_eq!(write(&pieces, false), "one line\nhalf\n\nended\n");
        let long = "NOW a one line\nNOW b half\nNOW a \nNOW corral ended\n";
        assert_eq!(write(&pieces, true), long);
    }
}
