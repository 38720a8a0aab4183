import { bytesSource, openSafetensors, toFloat32, writeSafetensors } from '@peftjs/safetensors';
import { CheckpointError } from '../errors.js';
import { NUMERICS } from '../numerics.js';
import type { AdapterLayers, ControllerState } from '../contracts/method.js';
import type { RowPredictions } from '../contracts/model.js';
import type { SizingStage } from './sizing-reason.js';
import { hostTensor, type HostTensor, type HostTensors } from '../tensors.js';

/** An adapter as it stood after a step. */
export interface Checkpoint {
  readonly step: number;
  readonly layers: AdapterLayers;
  readonly values: HostTensors;
  /** Metrics on the selection data; empty without any. */
  readonly metrics: Readonly<Record<string, number>>;
  readonly storedParameters: number;
  readonly ranks: Readonly<Record<string, number>>;
}

/** A checkpoint as a snapshot holds it: without its layers, which follow from the values. */
export type StoredCheckpoint = Omit<Checkpoint, 'layers'>;

/**
 * Everything that a run's numbers follow from, apart from the rows of its data and the executor: plain JSON by option, e.g.
 * `epochs`, `learningRates.gate`, `optimizer`, `optimizer.beta1`, `method.r`. A run resumes only with the same.
 */
export type RunDefinition = Readonly<Record<string, unknown>>;

/** A training run between two steps: with the same data and options, `resume` goes on from it to the same end. */
export interface TrainingSnapshot {
  readonly step: number;
  /** Steps before the optimizer's first: above 0 where a controller has let it begin anew. */
  readonly optimizerStart: number;
  /** What defines the run: it resumes with the same alone. */
  readonly training: RunDefinition;
  readonly adapter: HostTensors;
  /** The optimizer's slots, each by the keys of the trained tensors. */
  readonly slots: Readonly<Record<string, HostTensors>>;
  readonly controller: ControllerState | null;
  /** The best candidate so far. */
  readonly selected: StoredCheckpoint | null;
  /**
   * What early stopping remembers: the best evaluated checkpoint, the metric to improve upon and the evaluations since. Null for a run
   * without it.
   */
  readonly stopping: {
    readonly best: StoredCheckpoint | null;
    readonly record: number | null;
    readonly waited: number;
  } | null;
  /** Stored parameters of the adapter, as last counted. */
  readonly stored: number;
  /** Sum over the steps of the adapter's stored parameters, for their mean over time. */
  readonly storedSum: number;
  /** Milliseconds spent compiling so far. */
  readonly compileMs: number;
  /** Of a run that chooses its size, after the first stage: what it knows of the stages before. */
  readonly sizing?: SizingProgress;
}

/** What a run that chooses a size keeps between two steps, beside the stage that it is in. */
export interface SizingProgress {
  readonly stages: readonly SizingStage[];
  /** What the dense adapter predicts of the selection rows; null where a margin is given. */
  readonly dense: RowPredictions | null;
  /** The smallest adapter that has not lost. */
  readonly smallest: StoredCheckpoint;
  readonly compileMs: number;
}

const FORMAT = 'peftjs-training-3';

/** A snapshot as one safetensors file; `metadata` stands in its header, beside what is the snapshot's. */
export function writeSnapshot(
  { adapter, slots, selected, stopping, sizing, ...progress }: TrainingSnapshot,
  metadata: Readonly<Record<string, string>> = {},
): Uint8Array {
  const ofSlots = Object.entries(slots).map(([slot, tensors]) => [`slots/${slot}`, tensors] as const);
  const checkpoints = {
    selected: selected?.values ?? {},
    best: stopping?.best?.values ?? {},
    smallest: sizing?.smallest.values ?? {},
  };
  const groups = Object.fromEntries([['adapter', adapter], ...Object.entries(checkpoints), ...ofSlots]);
  const tensors = Object.entries(groups).flatMap(([group, members]) =>
    Object.entries(members).map(
      ([name, { shape, data }]) => [`${group}/${name}`, { dtype: 'F32', shape, data: data as Float32Array }] as const,
    ),
  );
  const written: Written = {
    ...progress,
    slots: Object.keys(slots),
    selected: withoutValues(selected),
    stopping: stopping && { ...stopping, best: withoutValues(stopping.best) },
    ...(sizing && { sizing: { ...sizing, smallest: withoutValues(sizing.smallest) } }),
  };
  const run = JSON.stringify(written);
  return writeSafetensors(new Map(tensors), { ...metadata, format: FORMAT, numerics: String(NUMERICS), run });
}

/**
 * Reads what `writeSnapshot` wrote.
 * @throws CheckpointError when it is broken, something else, of another version's format, or of other `NUMERICS`: the rest of the run
 *   would not fit its beginning.
 */
export async function readSnapshot(bytes: Uint8Array, path = 'the snapshot'): Promise<TrainingSnapshot> {
  try {
    const file = await openSafetensors(bytesSource(bytes));
    const { selected, stopping, slots, sizing, ...progress } = writtenRun(file.metadata, path);
    const tensors = new Map<string, HostTensor>();
    for (const name of file.names) {
      const tensor = await file.read(name);
      tensors.set(name, hostTensor(toFloat32(tensor), tensor.shape));
    }
    const group = (name: string): HostTensors => {
      const own = [...tensors].filter(([key]) => key.startsWith(`${name}/`));
      return Object.fromEntries(own.map(([key, tensor]) => [key.slice(name.length + 1), tensor]));
    };
    const best = stopping?.best;
    return {
      ...progress,
      adapter: group('adapter'),
      slots: Object.fromEntries(slots.map((slot) => [slot, group(`slots/${slot}`)])),
      selected: selected && { ...selected, values: group('selected') },
      stopping: stopping && { ...stopping, best: best ? { ...best, values: group('best') } : null },
      ...(sizing && { sizing: { ...sizing, smallest: { ...sizing.smallest, values: group('smallest') } } }),
    };
  } catch (cause) {
    const reason = cause instanceof Error ? cause.message : String(cause);
    throw new CheckpointError(`${path} cannot be resumed: ${reason}`, path, cause);
  }
}

/** What the header holds of the run of a snapshot. */
function writtenRun(metadata: Readonly<Record<string, string | undefined>>, path: string): Written {
  const { format, numerics = '0', run } = metadata;
  if (format !== FORMAT || run === undefined) {
    const isOlder = format?.startsWith(FORMAT.slice(0, -1)) ?? false;
    const reason = isOlder
      ? `another version of peftjs wrote it in format ${format}, this one reads ${FORMAT}; start the run anew`
      : `expected a file of format ${FORMAT}, got ${format ?? 'none'}`;
    throw new CheckpointError(reason, path);
  }
  if (numerics !== String(NUMERICS)) {
    throw new CheckpointError(`its numerics are ${numerics}, expected ${NUMERICS}`, path);
  }
  return JSON.parse(run) as Written;
}

function withoutValues<C extends StoredCheckpoint | null>(checkpoint: C): Judgement | Extract<C, null> {
  if (!checkpoint) return null as Extract<C, null>;
  const { values: _, ...judged } = checkpoint;
  return judged;
}

type Judgement = Omit<StoredCheckpoint, 'values'>;

/** What the header holds of a run. */
type Written = Omit<TrainingSnapshot, 'adapter' | 'slots' | 'selected' | 'stopping' | 'sizing'> & {
  readonly sizing?: Omit<SizingProgress, 'smallest'> & { readonly smallest: Judgement };
  readonly slots: readonly string[];
  readonly selected: Judgement | null;
  readonly stopping: {
    readonly best: Judgement | null;
    readonly record: number | null;
    readonly waited: number;
  } | null;
};
