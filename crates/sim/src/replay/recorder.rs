//! What an observer is told of a stretch that is simulated, noted for those that it is told of when the stretch is replayed.

use crate::front_end::counter_file::EXTERNALS;
use crate::observation::activity::{Activity, Span};
use crate::observation::event::{Cycle, Event};
use crate::observation::observer::{CountedOperation, Observer};
use crate::observation::profile::{Profile, ProfileSums};

/// Notes what an observer, if there is one, is told. Events and cycles are for the profiler of the stretch alone.
pub(super) struct Recorder<'o, O> {
    observer: Option<&'o mut O>,
    profiler: Option<&'o mut Profile>,
    noted: Noted,
}

/// What was told of a stretch, in its own cycles and marks where it says so.
#[derive(Debug, Default)]
pub(super) struct Noted {
    pub marks: Vec<(Cycle, usize)>,
    pub counted: Vec<CountedOperation>,
    /// From the start of the stretch.
    pub profile: Option<ProfileSums>,
}

/// Where a stretch begins: behind so many marks, in this cycle.
#[derive(Clone, Copy, Debug)]
pub(super) struct Beginning {
    pub marks: usize,
    pub cycle: Cycle,
}

impl<'o, O: Observer> Recorder<'o, O> {
    /// Records a stretch: `simulate` tells the recorder of it. `external` are the machine's external values before it; those behind it
    /// come back with the result.
    pub fn record<R>(
        mut observer: Option<&mut O>,
        mut profiler: Option<&mut Profile>,
        Beginning { marks, cycle }: Beginning,
        external: [u32; EXTERNALS],
        simulate: impl FnOnce(&mut Recorder<'_, O>) -> (R, [u32; EXTERNALS]),
    ) -> (R, Noted) {
        if let Some(profiler) = &mut profiler {
            profiler.begin_stretch(marks, cycle, external);
        }
        let mut recorder =
            Recorder { observer: observer.as_deref_mut(), profiler: profiler.as_deref_mut(), noted: Noted::default() };
        let (result, external) = simulate(&mut recorder);
        let noted = recorder.noted;
        let profile = profiler.map(|profiler| profiler.end_stretch(marks, cycle, external));
        if let (Some(sums), Some(whole)) = (&profile, observer.and_then(Observer::profile)) {
            whole.add_stretch(sums, marks, cycle);
        }
        (result, Noted { profile, ..noted })
    }
}

impl<O: Observer> Observer for Recorder<'_, O> {
    const ACTIVITY: bool = O::ACTIVITY;

    fn wants_events(&self) -> bool {
        self.profiler.is_some()
    }

    fn event(&mut self, _: Cycle, event: &Event) {
        if let Some(profiler) = &mut self.profiler {
            profiler.event(event);
        }
    }

    fn cycles(&mut self, span: Span, activity: &Activity) {
        if let Some(profiler) = &mut self.profiler {
            profiler.cycles(span, activity);
        }
    }

    fn mark(&mut self, cycle: Cycle, mark: usize) {
        self.noted.marks.push((cycle, mark));
        if let Some(observer) = &mut self.observer {
            observer.mark(cycle, mark);
        }
    }

    fn wants_counts(&self) -> bool {
        self.observer.as_ref().is_some_and(|observer| observer.wants_counts())
    }

    fn counted(&mut self, operation: &CountedOperation) {
        self.noted.counted.push(*operation);
        if let Some(observer) = &mut self.observer {
            observer.counted(operation);
        }
    }
}
