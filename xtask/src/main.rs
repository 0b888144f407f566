//! `cargo xtask`: what people and CI run in this repository.
#![forbid(unsafe_code)]

mod bench;
mod build;
mod ci;
mod demo;
mod features;
mod fuzz;
mod mock;
mod needs;
mod prove;
mod steps;
mod suites;
mod test;
mod tidy;
mod workspace;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// What people and CI run in this repository.
#[derive(Debug, Parser)]
#[command(bin_name = "cargo xtask", disable_help_subcommand = true)]
struct Cli {
    #[command(subcommand)]
    task: Task,
}

#[derive(Debug, Subcommand)]
enum Task {
    Test(test::Test),
    Ci(ci::Ci),
    Demo(demo::Demo),
    Mock(mock::Mock),
    Bench(bench::Bench),
    Fuzz(fuzz::Fuzz),
    Prove(prove::Prove),
    Tidy(tidy::Tidy),
}

fn main() -> ExitCode {
    let done = workspace::shell().and_then(|sh| match Cli::parse().task {
        Task::Test(task) => task.run(&sh).map(|()| ExitCode::SUCCESS),
        Task::Ci(task) => task.run(&sh).map(|()| ExitCode::SUCCESS),
        Task::Demo(task) => task.run(&sh).map(|()| ExitCode::SUCCESS),
        Task::Mock(task) => task.run(&sh).map(|()| ExitCode::SUCCESS),
        Task::Bench(task) => task.run(&sh).map(|()| ExitCode::SUCCESS),
        Task::Prove(task) => task.run(&sh).map(|()| ExitCode::SUCCESS),
        Task::Tidy(task) => task.run(&sh).map(|()| ExitCode::SUCCESS),
        Task::Fuzz(task) => task.run(&sh),
    });
    match done {
        Ok(code) => code,
        Err(error) => {
            steps::failed(&format!("{error:#}"));
            ExitCode::FAILURE
        }
    }
}
