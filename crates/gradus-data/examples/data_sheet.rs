//! Draws a sheet of samples of any data set, one row per class, and packs the set beside it.
//!
//! ```text
//! cargo run --release -p gradus-data --example data_sheet -- shapes shapes.png [shapes.gradus]
//! ```

use std::error::Error;

use gradus_data::{DataSpec, OpenOptions, pack, sheet_by_class};

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (Some(spec), Some(picture)) = (arguments.first(), arguments.get(1)) else {
        return Err("usage: data_sheet DATA PICTURE.png [PACK.gradus]".into());
    };
    let data = spec.parse::<DataSpec>()?.open(&OpenOptions::default())?;
    sheet_by_class(&data.train, data.classes.len(), 12).save(picture)?;
    if let Some(file) = arguments.get(2) {
        pack::write(&data, file.as_ref())?;
    }
    Ok(())
}
