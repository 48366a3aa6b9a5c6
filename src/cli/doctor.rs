//! `clipcap doctor`

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Result, ensure};
use burn::tensor::Device;
use clap::Args;
use clipcap::captioner::Captioner;
use clipcap::catalog::{self, Catalog, Room};
use clipcap::device;
use clipcap::files;
use clipcap::hub::{Hub, HubConfig};
use clipcap::search::runs::list;
use clipcap::train::status::RunStatus;
use clipcap::trainer::run::ARTIFACTS;
use cpu_kernels::simd::Isa;
use image::{Rgb, RgbImage};
use sysinfo::{Disks, System};

use super::models::size;
use super::{out, version};

/// Memory below which it is said what captioning takes.
const LITTLE_MEMORY: u64 = 1_000_000_000;
/// Disk space below which it is said what models take.
const LITTLE_DISK: u64 = 3_000_000_000;

/// Check this build and machine: devices, memory, disk, cache, models and runs; tell what is wrong and what to do
#[derive(Args)]
#[command(after_help = "\
Examples:
  clipcap doctor
  clipcap doctor --online

Its output belongs into a report of a bug. Nothing is sent anywhere. The exit code is 1 when something is wrong.")]
pub struct DoctorArgs {
    /// Ask the Hugging Face Hub too, whether it can be reached
    #[arg(long)]
    online: bool,
}

/// What was looked at, line by line.
struct Findings {
    text: String,
    wrong: usize,
}

impl Findings {
    fn fine(&mut self, what: &str, found: impl std::fmt::Display) {
        self.line("ok   ", what, found);
    }

    /// Not as it could be, but no fault.
    fn note(&mut self, what: &str, found: impl std::fmt::Display) {
        self.line("note ", what, found);
    }

    fn wrong(&mut self, what: &str, found: impl std::fmt::Display) {
        self.wrong += 1;
        self.line("WRONG", what, found);
    }

    fn line(&mut self, mark: &str, what: &str, found: impl std::fmt::Display) {
        let found = out::one_line(&found.to_string());
        self.text += &format!("{mark}  {what:9}  {found}\n");
    }
}

pub fn run(args: DoctorArgs) -> Result<ExitCode> {
    let mut findings = Findings {
        text: format!("clipcap {}\n\n", version::long()),
        wrong: 0,
    };
    check_build(&mut findings);
    check_devices(&mut findings);
    check_memory(&mut findings);
    check_places(&mut findings);
    check_models(&mut findings);
    check_captioning(&mut findings);
    match args.online {
        true => check_hub(&mut findings),
        false => findings.note("Hub", "not asked; --online does"),
    }
    findings.text += &match findings.wrong {
        0 => "\nnothing is wrong\n".to_string(),
        wrong => format!("\n{wrong} wrong\n"),
    };
    out::text(&findings.text)?;
    Ok(match findings.wrong {
        0 => ExitCode::SUCCESS,
        _ => ExitCode::FAILURE,
    })
}

fn check_build(findings: &mut Findings) {
    if cfg!(debug_assertions) {
        findings.note(
            "build",
            "a development build, which is slower: use --release",
        );
    }
    match Isa::chosen() {
        Ok(isa) if isa.name() == "portable" => findings.note(
            "CPU",
            "kernels in plain Rust: those for AVX2 and AVX-512 are several times faster, where the processor has it",
        ),
        Ok(isa) => findings.fine("CPU", format_args!("{} kernels", isa.name())),
        Err(error) => findings.wrong("CPU", format_args!("{error}: unset CLIPCAP_SIMD")),
    }
}

fn check_devices(findings: &mut Findings) {
    let mut cards = 0;
    for device in device::list().iter().skip(1) {
        cards += 1;
        let auto = if device.is_auto {
            ", which `auto` stands for"
        } else {
            ""
        };
        findings.fine(
            "device",
            format_args!("{}: {}{auto}", device.name, device.description),
        );
    }
    if cards == 0 {
        let tried = device::compiled()[2..].join(", ");
        let why = match tried.is_empty() {
            true => "this build has no backend for one".to_string(),
            false => format!("looked for with {tried}"),
        };
        findings.note("device", format_args!("no GPU ({why}): the CPU computes"));
    }
}

fn check_memory(findings: &mut Findings) {
    let mut system = System::new();
    system.refresh_memory();
    let limits = system.cgroup_limits();
    let (free, total) = limits.map_or(
        (system.available_memory(), system.total_memory()),
        |limits| (limits.free_memory, limits.total_memory),
    );
    let found = format!("{} free of {}", size(free), size(total));
    if free < LITTLE_MEMORY {
        findings.note(
            "memory",
            format_args!("{found}: captioning with ViT-B/32 and GPT-2 takes 0.65 GB, training more; end other programs, or take a smaller --batch-size"),
        );
    } else {
        findings.fine("memory", found);
    }
}

/// Where files go: that they can, and how much.
fn check_places(findings: &mut Findings) {
    let disks = Disks::new_with_refreshed_list();
    let mut place = |what: &str, folder: PathBuf, instead: &str| {
        let shown = folder.display().to_string();
        if let Err(error) = files::can_write(&folder) {
            findings.wrong(what, format_args!("{shown}: {error:#}: {instead}"));
            return;
        }
        let free = free_space(&disks, &folder);
        let found = match free {
            Some(free) => format!("{shown}, {} free", size(free)),
            None => shown,
        };
        match free {
            Some(free) if free < LITTLE_DISK => findings.note(
                what,
                format_args!("{found}: clipcap-coco takes 1.2 GB to download and as much again as a model; make room, or {instead}"),
            ),
            _ => findings.fine(what, found),
        }
    };
    place("here", ".".into(), "go to a folder of yours");
    if let Some(home) = catalog::home().filter(|_| catalog::unusable_home().is_none()) {
        place("yours", home, "set CLIPCAP_HOME to a folder of yours");
    }
    let cache = HubConfig::from_env().cache;
    place("Hub cache", cache, "set HF_HOME to a folder of yours");
    place(
        "temporary",
        std::env::temp_dir(),
        "set TMPDIR to a folder of yours",
    );
    match catalog::unusable_home() {
        Some(problem) => findings.wrong("yours", problem),
        None if catalog::home().is_none() => findings.wrong(
            "yours",
            "there is no home folder: set CLIPCAP_HOME to a folder of yours",
        ),
        None => {}
    }
}

/// Bytes left where a folder is, or would be.
fn free_space(disks: &Disks, folder: &Path) -> Option<u64> {
    let there = folder.ancestors().find_map(|above| {
        let above = if above.as_os_str().is_empty() {
            Path::new(".")
        } else {
            above
        };
        fs::canonicalize(above).ok()
    })?;
    let holding = disks
        .iter()
        .filter(|disk| there.starts_with(disk.mount_point()));
    let nearest = holding.max_by_key(|disk| disk.mount_point().as_os_str().len());
    nearest.map(|disk| disk.available_space())
}

/// Runs with files that cannot be read. Their reasons are given back.
fn check_runs(findings: &mut Findings) -> Vec<String> {
    let mut told = Vec::new();
    for run in list(Path::new(ARTIFACTS)) {
        for problem in run.problems {
            let folder = run.folder.display();
            findings.wrong(
                "run",
                format_args!("{folder} is damaged: {problem}; delete the folder, or train again"),
            );
            told.push(problem);
        }
    }
    told
}

fn check_models(findings: &mut Findings) {
    let told = check_runs(findings);
    for model in Catalog::default().list() {
        let Some(path) = &model.path else { continue };
        if (model.problem.as_ref()).is_some_and(|problem| told.contains(problem)) {
            continue;
        }
        let what = if model.room == Room::Run {
            "run"
        } else {
            "model"
        };
        let path = path.display();
        match (&model.problem, model.status) {
            (Some(problem), _) => findings.wrong(what, format_args!("{path}: {problem}")),
            (None, status) if model.room == Room::Run && status != Some(RunStatus::Finished) => {
                let described = RunStatus::describe(status);
                findings.note(what, format_args!("{path}: it {described}; `infer` takes it when --model names it, `train --resume` resumes it"));
            }
            (None, _) => findings.fine(what, format_args!("{path}: {}", model.about)),
        }
    }
}

/// Captions a white image with the sample model on the CPU.
fn check_captioning(findings: &mut Findings) {
    let caption = || -> Result<f64> {
        let begun = Instant::now();
        let captioner = Captioner::builder()
            .device(&Device::flex())
            .load(Catalog::default().sample()?)?;
        let image = RgbImage::from_pixel(64, 64, Rgb([255; 3]));
        let caption = captioner.caption(&image)?.caption;
        ensure!(!caption.trim().is_empty(), "the caption is empty");
        Ok(begun.elapsed().as_secs_f64())
    };
    match caption() {
        Ok(seconds) => findings.fine(
            "captions",
            format_args!(
                "the sample model was loaded and captioned an image on the CPU in {seconds:.2} s"
            ),
        ),
        Err(error) => findings.wrong("captions", format_args!("{error:#}")),
    }
}

fn check_hub(findings: &mut Findings) {
    let mut config = HubConfig::from_env();
    let offline = config.offline;
    config.offline = false;
    let asked = Hub::new(&config).and_then(|hub| hub.repo("openai-community/gpt2").map(drop));
    match asked {
        Ok(()) if offline => findings.note("Hub", "it answers, but HF_HUB_OFFLINE is set"),
        Ok(()) => findings.fine("Hub", format_args!("{} answers", config.endpoint)),
        Err(error) => findings.wrong("Hub", error),
    }
}
