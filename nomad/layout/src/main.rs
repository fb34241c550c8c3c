//! `nomad-layout`: the commands of an operator.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::{Args, Parser, Subcommand};
use nomad_layout::layout::Layout;
use nomad_layout::shell::Shell;
use nomad_layout::{
    backup, candles, cutover, deploy, directories, drill, etcd_wipe, gate, images, jobs, meta, preflight,
    restore, validate, variables,
};

/// Deploys, checks, drills and rolls back the layout on a Nomad cluster. NOMAD_ADDR, NOMAD_TOKEN and NOMAD_CACERT are those of `nomad`.
#[derive(Debug, Parser)]
#[command(name = "nomad-layout", version)]
struct Arguments {
    /// The folder with site.vars.hcl and the job files.
    #[arg(long, global = true, default_value = "nomad")]
    folder: PathBuf,
    /// Var-files in the place of the folder's site.vars.hcl; a later one wins.
    #[arg(long = "var-file", global = true)]
    var_files: Vec<PathBuf>,
    /// Prints what would be changed, and changes nothing.
    #[arg(long, global = true)]
    dry_run: bool,
    /// Adds a row to this Markdown table for each drill and cut-over.
    #[arg(long, global = true)]
    results: Option<PathBuf>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Looks at everything that has to be so before a deployment.
    Preflight {
        #[arg(default_values_t = ["database".to_owned()])]
        parts: Vec<String>,
        /// How many servers Nomad has.
        #[arg(long, default_value_t = 3)]
        servers: usize,
        /// What may be off: acl, tls or gossip.
        #[arg(long)]
        without: Vec<String>,
    },
    /// Looks at the directories of the node where this runs: owner, mode, room, existing data.
    Directories {
        /// The node's name.
        node: String,
        /// Stack B's data is on this node.
        #[arg(long)]
        stack_b: bool,
        /// GiB that each directory must have free.
        #[arg(long, default_value_t = 20)]
        free: u64,
    },
    /// Deploys a part (database, vietmarket, gvfx), step by step, each behind its gate.
    Deploy(Deploy),
    /// Waits for one gate: etcd, database, schema, proxy, job NAME COUNT, http NAME PATH, singleton NAME, finished NAME.
    Gate {
        #[arg(required = true)]
        words: Vec<String>,
        /// Seconds to wait.
        #[arg(long, default_value_t = 60)]
        within: u64,
    },
    /// Replaces HAProxy by the proxy, and takes HAProxy back when the proxy does not serve.
    Cutover {
        /// Only runs the proxy beside HAProxy, on ports that are 10000 higher.
        #[arg(long)]
        rehearse: bool,
    },
    /// Replaces the proxy by HAProxy.
    Rollback,
    /// Runs a drill while clients write; `list` names them. With a command after `--`, the drill is that command.
    Drill {
        name: String,
        /// The longest time without an acknowledged write that a command of your own may cause, in seconds.
        #[arg(long, default_value_t = 60)]
        longest: u64,
        #[arg(last = true)]
        command: Vec<String>,
    },
    /// Writes candles through both nodes and reads them by the History API, whose key is in API_KEY, while a command does what it does.
    Candles {
        /// How the run is called in the table of results.
        name: String,
        /// The History API.
        #[arg(long, default_value = "http://127.0.0.1:8787")]
        api: String,
        /// How many candles at least.
        #[arg(long, default_value_t = 1_000_000)]
        count: u64,
        /// Candles a second.
        #[arg(long, default_value_t = 4_000)]
        rate: u64,
        #[arg(last = true, required = true)]
        command: Vec<String>,
    },
    /// Goes through the checklist of a deployed layout.
    Validate {
        #[arg(default_values_t = ["database".to_owned()])]
        parts: Vec<String>,
        #[arg(long, default_value = "community")]
        require: String,
    },
    /// Dumps the candles' database into a new directory, with a manifest.
    Backup { directory: PathBuf },
    /// Restores a backup into a scratch server and compares it with its manifest.
    RestoreRehearsal {
        directory: PathBuf,
        /// PostgreSQL's programs, of the dump's major.
        #[arg(long, default_value = "/usr/lib/postgresql/16/bin")]
        bin_dir: String,
    },
    /// Empties the directory of an etcd member, on its node.
    EtcdWipe {
        member: String,
        #[arg(long)]
        yes_delete_all_data: bool,
    },
    /// Sets the nodes' meta as node_meta in the var-file has it.
    Meta,
    /// Nomad's variables.
    Variables {
        #[command(subcommand)]
        command: Variables,
    },
    /// The images.
    Images {
        #[command(subcommand)]
        command: Images,
    },
}

#[derive(Args, Debug)]
struct Deploy {
    part: String,
    /// The first step.
    #[arg(long)]
    from: Option<String>,
    /// The last step.
    #[arg(long)]
    to: Option<String>,
    /// What the database has to be able to do: community, apache or none.
    #[arg(long, default_value = "community")]
    require: String,
    /// Stateful tasks of Stack B may begin on an empty directory.
    #[arg(long)]
    initialise: bool,
    /// The frontend is hosted on Nomad.
    #[arg(long)]
    frontend: bool,
    /// The worker of before this layout is stopped and gone.
    #[arg(long)]
    legacy_worker_stopped: bool,
}

#[derive(Debug, Subcommand)]
enum Variables {
    /// Tells which keys are missing or still a placeholder.
    Check,
    /// Writes variables from files with real values.
    Put { files: Vec<PathBuf> },
    /// Lets the jobs of Stack B read the shared variables.
    Policies,
}

#[derive(Debug, Subcommand)]
enum Images {
    /// Asks the registries for every image that the parts name.
    Check { parts: Vec<String> },
    /// Builds an image for the Linux nodes and pushes it.
    Push { image: String, context: String },
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let shell = Shell { dry_run: arguments.dry_run };
    match run(&arguments, shell) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            shell.say(&format!("STOPPED: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments, shell: Shell) -> Result<()> {
    let mut layout = Layout::open(&arguments.folder, &arguments.var_files, shell)?;
    layout.results.clone_from(&arguments.results);
    match &arguments.command {
        Command::Preflight { parts, servers, without } => {
            preflight::run(&layout, &files_of(parts)?, *servers, without)
        }
        Command::Directories { node, stack_b, free } => directories::run(&layout, node, *stack_b, *free),
        Command::Deploy(wanted) => {
            let options = deploy::Options {
                require: wanted.require.clone(),
                initialise: wanted.initialise,
                frontend: wanted.frontend,
                legacy_worker_stopped: wanted.legacy_worker_stopped,
            };
            deploy::deploy(&layout, &wanted.part, (wanted.from.as_deref(), wanted.to.as_deref()), &options)
        }
        Command::Gate { words, within } => {
            gate::named(&layout, words, Duration::from_secs(*within))?.pass(&layout)
        }
        Command::Cutover { rehearse: true } => cutover::rehearse(&layout),
        Command::Cutover { rehearse: false } => cutover::cut_over(&layout),
        Command::Rollback => cutover::roll_back(&layout),
        Command::Drill { name, .. } if name == "list" => {
            drill::names().for_each(|name| shell.say(name));
            Ok(())
        }
        Command::Drill { name, command, .. } if command.is_empty() => drill::run(&layout, name),
        Command::Drill { name, longest, command } => {
            drill::run_command(&layout, name, Duration::from_secs(*longest), command)
        }
        Command::Candles { name, api, count, rate, command } => {
            let key = std::env::var("API_KEY").context("API_KEY is not set: it is the History API's key")?;
            let options = candles::Options {
                count: *count,
                rate: *rate,
                api: api.clone(),
                key,
                command: command.clone(),
            };
            candles::run(&layout, name, &options)
        }
        Command::Validate { parts, require } => validate::run(&layout, parts, require),
        Command::Backup { directory } => backup::run(&layout, directory),
        Command::RestoreRehearsal { directory, bin_dir } => restore::rehearse(&layout, directory, bin_dir),
        Command::EtcdWipe { member, yes_delete_all_data } => {
            etcd_wipe::run(&layout, member, *yes_delete_all_data)
        }
        Command::Meta => meta::apply(&layout),
        Command::Variables { command: Variables::Check } => {
            variables::check(&layout, |_| true).map(|evidence| shell.say(&evidence))
        }
        Command::Variables { command: Variables::Put { files } } => variables::put(&layout, files),
        Command::Variables { command: Variables::Policies } => variables::policies(&layout),
        Command::Images { command: Images::Check { parts } } => {
            images::check(&layout, &files_of(parts)?).map(|evidence| shell.say(&evidence))
        }
        Command::Images { command: Images::Push { image, context } } => images::push(&layout, image, context),
    }
}

/// The job files of these parts.
fn files_of(parts: &[String]) -> Result<Vec<&'static str>> {
    let mut files = Vec::new();
    for part in parts {
        match part.as_str() {
            "database" => files.extend(jobs::DATABASE),
            "vietmarket" => files.extend(jobs::VIETMARKET),
            "gvfx" => files.extend(jobs::GVFX),
            _ => bail!("there is no part \"{part}\"; there are database, vietmarket and gvfx"),
        }
    }
    Ok(files)
}
