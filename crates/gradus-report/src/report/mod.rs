//! The page: one HTML file that needs nothing beside itself, and the figures beside it.

pub(crate) mod format;
mod page;

use std::path::{Path, PathBuf};

use crate::draw::Theme;
use crate::error::write;
use crate::run::Run;
use crate::{ReportError, figures};

/// What [`write_report`] wrote.
#[derive(Debug, Clone)]
pub struct ReportPaths {
    /// `report.html`.
    pub html: PathBuf,
    /// `figures/*.svg` and `figures/*.png`, in the order of the report.
    pub figures: Vec<PathBuf>,
    /// What is not in the report, and why: one sentence each.
    pub notices: Vec<String>,
}

/// Reads the run folder, draws its figures into `figures/` and writes `report.html`. Each file is
/// replaced in one step; `report.html` comes last. A figure too large for a PNG is left as SVG, with
/// a notice.
///
/// # Errors
/// As [`Run::read`]; [`ReportError::Io`] if the folder is not writable.
pub fn write_report(run_dir: &Path) -> Result<ReportPaths, ReportError> {
    let mut run = Run::read(run_dir)?;
    let folder = run_dir.join("figures");
    std::fs::create_dir_all(&folder).map_err(|e| ReportError::io(&folder, "create", e))?;
    let mut paths = Vec::new();
    for figure in figures::all(&run) {
        match figure.write(&folder) {
            Ok(written) => paths.extend(written),
            // A picture of thousands of classes: the rest of the report is worth having.
            Err(ReportError::Draw { figure, problem }) => {
                run.notices.push(format!(
                    "figures/{figure}.png is left out, it is too large or cannot be drawn ({problem}); \
                     {figure}.svg is there"
                ));
                // What an earlier report left there shows other numbers.
                let _ = std::fs::remove_file(folder.join(format!("{figure}.png")));
                paths.push(folder.join(format!("{figure}.svg")));
            }
            Err(other) => return Err(other),
        }
    }
    let path = run_dir.join("report.html");
    write(&path, html(&run)?.as_bytes())?;
    Ok(ReportPaths {
        html: path,
        figures: paths,
        notices: run.notices,
    })
}

/// The page as text: no scripts, no outside resources, every name escaped.
///
/// # Errors
/// [`ReportError::Page`] if the template fails, which it does only for want of memory.
pub fn html(run: &Run) -> Result<String, ReportError> {
    Ok(askama::Template::render(&page::Page::of(run))?)
}

/// A figure as the page shows it.
struct Inline {
    name: String,
    title: String,
    caption: String,
    svg: String,
    width: usize,
}

impl Inline {
    fn of(figure: &crate::Figure) -> Self {
        Self {
            name: figure.name.clone(),
            title: figure.title.clone(),
            caption: figure.caption.clone(),
            svg: figure.svg(Theme::Page),
            width: figure.scene.width.ceil() as usize,
        }
    }
}
