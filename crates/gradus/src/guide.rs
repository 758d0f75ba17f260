//! A walk through Gradus in small programs, each compiled and run as a test.
//!
//! # 1. An update rule on two numbers
//!
//! ```text
//! v ← μ·v + g,   θ ← θ − η·v
//! ```
//!
//! ```
//! use gradus::optim::{Sgd, minimise};
//!
//! // f(x, y) = ½(x² + 10y²), whose gradient is (x, 10y).
//! let descend = |steps| minimise(&Sgd::default(), 0.1, &[1.0, 1.0], steps, |p| vec![p[0], 10.0 * p[1]]);
//! assert_eq!(descend(1), [0.9, 0.0]); // y lands in one step, because η·λ = 1 there
//! assert!((descend(50)[0] - 0.9_f64.powi(50)).abs() < 1e-12); // x shrinks by 0.9 a step
//! ```
//!
//! # 2. Images
//!
//! ```
//! use gradus::data::{DataSpec, OpenOptions, Split};
//!
//! let options = OpenOptions { shapes_train: 200, shapes_test: 50, ..OpenOptions::default() };
//! let data = "shapes".parse::<DataSpec>()?.open(&options)?;
//! assert_eq!((data.train.len(), data.classes.len()), (200, 10));
//! let split = Split::stratified(&data.train.labels, data.classes.len(), 42, 0.1)?;
//! assert_eq!((split.train.len(), split.validation.len()), (180, 20));
//! # Ok::<(), gradus::data::DataError>(())
//! ```
//!
//! # 3. A model, forward and backward
//!
//! With all weights zero every class is as likely as any other, so the loss is ln 10: the first thing
//! to check of any classifier.
//!
//! ```
//! use gradus::prelude::*;
//!
//! let device = gradus::train::device("flex")?.0.autodiff();
//! let mut config = ModelConfig::named("linear")?;
//! config.initializer = "zeros".parse()?;
//! let model = config.init(&device)?;
//! let images = Tensor::<4>::ones([2, 3, 32, 32], &device);
//! let labels = Tensor::<1, Int>::from_ints([3, 7], &device);
//! let loss = Loss::default().forward(model.forward(images, Mode::train(42, 0)), labels);
//! assert!((loss.clone().into_scalar::<f32>() - 10_f32.ln()).abs() < 1e-6);
//! let gradients = burn::optim::GradientsParams::from_grads(loss.backward(), &model);
//! assert_eq!(gradients.len(), 2); // the weight's and the bias's
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # 4. A whole run
//!
//! ```
//! use gradus::prelude::*;
//!
//! # let folder = tempfile::tempdir()?;
//! let mut config = recipe("linear", &"shapes".parse()?)?;
//! config.epochs = 1;
//! config.data.shapes_train = 500;
//! config.data.shapes_test = 100;
//! let data = config.data.open()?;
//! let config = fitted(&config, &data)?;
//! let model = build_model(&config, &data, &gradus::train::device(&config.device)?.0)?;
//! let outcome = Trainer::new(config, data)?.out(folder.path().join("run")).fit(model)?;
//! let Ended::Finished(summary) = outcome.ended else { panic!("nobody interrupted it") };
//! assert_eq!(summary.test_images, 100);
//! let report = gradus::report::write_report(&outcome.run_dir)?;
//! assert!(report.html.exists());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
