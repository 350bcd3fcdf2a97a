//! The layer that turns events into lines, with the fields of the spans they happen in.

use std::time::SystemTime;

use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;
use tracing_subscriber::registry::LookupSpan;

use super::line::{self, Fields, Format};
use super::output::{Output, WhenFull};

/// Writes every event that reaches it to all outputs.
#[derive(Debug)]
pub(super) struct Lines {
    pub(super) format: Format,
    pub(super) outputs: Vec<Output>,
}

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for Lines {
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        if let Some(span) = context.span(id) {
            let mut fields = Fields::default();
            attributes.record(&mut fields);
            span.extensions_mut().insert(fields);
        }
    }

    fn on_record(&self, id: &Id, values: &Record<'_>, context: Context<'_, S>) {
        if let Some(span) = context.span(id)
            && let Some(fields) = span.extensions_mut().get_mut::<Fields>()
        {
            values.record(fields);
        }
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        let mut fields = Fields::default();
        event.record(&mut fields);
        // Where two spans, or a span and the event, have a field of one name, the inner one counts.
        for span in context.event_scope(event).into_iter().flatten() {
            if let Some(outer) = span.extensions().get::<Fields>() {
                fields.add_missing(outer);
            }
        }
        let line = line::render(event.metadata(), &fields, self.format, SystemTime::now());
        if let Some((last, others)) = self.outputs.split_last() {
            for output in others {
                output.send(line.clone(), WhenFull::DropNew);
            }
            last.send(line, WhenFull::DropNew);
        }
    }
}
