//! An error with what caused it.

use std::error::Error;
use std::fmt;

/// Longest chain that is shown; an error whose sources form a circle must end somewhere.
const MAX_CAUSES: usize = 16;

/// Shows an error and its sources, from the outermost to the root: `failed to dial: timeout`.
///
/// Errors that repeat their source's text in their own do not show it twice.
#[derive(Debug, Clone, Copy)]
pub struct Chain<'a>(pub &'a (dyn Error + 'static));

impl fmt::Display for Chain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = self.0.to_string();
        f.write_str(&shown)?;
        let causes = std::iter::successors(self.0.source(), |&error| error.source());
        for cause in causes.take(MAX_CAUSES) {
            let text = cause.to_string();
            if !text.is_empty() && !shown.contains(&text) {
                write!(f, ": {text}")?;
                shown.push_str(&text);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    enum Layer {
        #[error("failed to dial")]
        Dial(#[source] Box<Self>),
        #[error("transport: {0}")]
        Repeats(#[source] Box<Self>),
        #[error("connection refused")]
        Root,
    }

    #[test]
    fn causes_are_shown_once_each() {
        let root = || Box::new(Layer::Root);
        let shown = |error: &Layer| Chain(error).to_string();
        assert_eq!(shown(&Layer::Root), "connection refused");
        assert_eq!(
            shown(&Layer::Dial(root())),
            "failed to dial: connection refused"
        );
        assert_eq!(
            shown(&Layer::Dial(Box::new(Layer::Repeats(root())))),
            "failed to dial: transport: connection refused"
        );
    }
}
