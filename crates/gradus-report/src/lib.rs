//! Figures and the self-contained HTML report, drawn from the files of a run.
