import { bytesSource, openSafetensors, toFloat32, writeSafetensors } from '@peftjs/safetensors';
import { assertArgument } from '../config.js';
import { CheckpointError } from '../errors.js';
import { objectLike } from '../kinds.js';
import { NUMERICS } from '../numerics.js';
import type { ControllerState } from '../contracts/controller.js';
import type { AdapterLayers } from '../contracts/layer.js';
import type { RowPredictions } from '../contracts/model.js';
import type { SizingStage } from './size-stages.js';
import { hostTensor, mapValues, type HostTensor, type HostTensors } from '../tensors.js';

/** An adapter after a step. */
export interface Checkpoint {
  /** The step, from 1. */
  readonly step: number;
  /** The adapter's layers, by module path. */
  readonly layers: AdapterLayers;
  /** Their tensors, by `<path>.<name>`. */
  readonly values: HostTensors;
  /** Metrics on the selection data; empty without such data. */
  readonly metrics: Readonly<Record<string, number>>;
  /** Numbers that the adapter stores on disk, head excluded. */
  readonly storedParameters: number;
  /** Ranks alive, by module path. */
  readonly ranks: Readonly<Record<string, number>>;
}

/** A checkpoint in a snapshot: without its layers, which follow from the values. */
export type StoredCheckpoint = Omit<Checkpoint, 'layers'>;

/** Drops a checkpoint's layers. */
export function withoutLayers<C extends Checkpoint | null>(checkpoint: C): StoredCheckpoint | Extract<C, null> {
  if (!checkpoint) return null as Extract<C, null>;
  const { layers: _, ...stored } = checkpoint;
  return stored;
}

/**
 * Everything that determines a run's numbers, except the rows of its data and the executor. It is plain JSON by option,
 * e.g. `epochs`, `learningRates.gate`, `optimizer`, `optimizer.beta1`, `method.r`. A run resumes only with the same
 * definition.
 */
export type RunDefinition = Readonly<Record<string, unknown>>;

/** A training run between two steps. With the same data and options, `resume` continues it to the same end. */
export interface TrainingSnapshot {
  /** The number of steps done. */
  readonly step: number;
  /** The step after which the optimizer last restarted; 0 unless a controller restarted it. */
  readonly optimizerStart: number;
  /** The definition of the run; it resumes only with the same one. */
  readonly training: RunDefinition;
  /** The adapter's tensors, by `<path>.<name>`. */
  readonly adapter: HostTensors;
  /** The optimizer's slots, each by the keys of the trained tensors. */
  readonly slots: Readonly<Record<string, HostTensors>>;
  /** The controller's memory; null without a controller. */
  readonly controller: ControllerState | null;
  /** The best candidate so far. */
  readonly selected: StoredCheckpoint | null;
  /** The state of early stopping. Null for a run without it. */
  readonly stopping: Stopping<StoredCheckpoint> | null;
  /** Stored parameters of the adapter, as last counted. */
  readonly stored: number;
  /** The sum over all steps of the adapter's stored parameters, for their mean. */
  readonly storedSum: number;
  /** Milliseconds spent compiling so far. */
  readonly compileMs: number;
  /**
   * For a run that chooses its adapter's size: the results of the finished stages. Left out before the first is
   * finished.
   */
  readonly sizing?: SizingProgress;
  /**
   * What the frozen model gives the rows, where the loss needs it and the data lack it: of the training rows log p of
   * both answers, `train` `[rows, 2]`; of the selection rows what their `score` takes, `selection` `[rows, outputs]`.
   */
  readonly reference?: HostTensors;
}

/** The state of early stopping. */
export interface Stopping<C> {
  /** The best checkpoint among those evaluated within the budget. */
  readonly best: C | null;
  /** The metric's value to improve on. */
  readonly record: number | null;
  /** The number of periodic evaluations since `record`. */
  readonly waited: number;
}

/** What a run that chooses its adapter's size keeps of its finished stages. */
export interface SizingProgress {
  /** The finished stages. */
  readonly stages: readonly SizingStage[];
  /** The dense adapter's predictions for the selection rows; null where a margin is given. */
  readonly dense: RowPredictions | null;
  /** The smallest adapter that has not lost. */
  readonly smallest: StoredCheckpoint;
  /** Milliseconds spent compiling in the finished stages. */
  readonly compileMs: number;
  /** The steps of the first stage, from which the lengths of the others follow. */
  readonly denseSteps: number;
}

const FORMAT = 'peftjs-training-3';

const aSnapshot = objectLike<TrainingSnapshot>('a snapshot, as onSnapshot gets it', {
  adapter: 'object',
  slots: 'object',
});

/** Writes a snapshot as one safetensors file; `metadata` is added to its header. */
export function writeSnapshot(snapshot: TrainingSnapshot, metadata: Readonly<Record<string, string>> = {}): Uint8Array {
  assertArgument('snapshot', snapshot, aSnapshot);
  const { adapter, slots, selected, stopping, sizing, reference = {}, ...progress } = snapshot;
  const ofSlots = Object.entries(slots).map(([slot, tensors]) => [`slots/${slot}`, tensors] as const);
  const checkpoints = { selected, best: stopping?.best, smallest: sizing?.smallest };
  const groups = {
    adapter,
    reference,
    ...mapValues(checkpoints, (each) => each?.values ?? {}),
    ...Object.fromEntries(ofSlots),
  };
  const tensors = Object.entries(groups).flatMap(([group, members]) =>
    Object.entries(members).map(
      ([name, { shape, data }]) => [`${group}/${name}`, { dtype: 'F32', shape, data: data as Float32Array }] as const,
    ),
  );
  const bare = (checkpoint: StoredCheckpoint | null) => checkpoint && { ...checkpoint, values: undefined };
  const written = {
    ...progress,
    slots: Object.keys(slots),
    selected: bare(selected),
    stopping: stopping && { ...stopping, best: bare(stopping.best) },
    ...(sizing && { sizing: { ...sizing, smallest: bare(sizing.smallest) } }),
  };
  const run = JSON.stringify(written, (_, value: unknown) =>
    typeof value === 'number' && !Number.isFinite(value) ? ({ notFinite: String(value) } satisfies NotFinite) : value,
  );
  return writeSafetensors(new Map(tensors), { ...metadata, format: FORMAT, numerics: String(NUMERICS), run });
}

/**
 * Reads a snapshot written by `writeSnapshot`.
 * @throws CheckpointError when the file is broken, is something else, or was written in another format or with other
 * `NUMERICS`: the rest of the run would then not match its beginning.
 */
export async function readSnapshot(bytes: Uint8Array, path = 'the snapshot'): Promise<TrainingSnapshot> {
  try {
    const file = await openSafetensors(bytesSource(bytes));
    const { selected, stopping, slots, sizing, ...progress } = writtenRun(file.metadata, path);
    const tensors = new Map<string, HostTensor>();
    for (const name of file.names) {
      const tensor = await file.read(name);
      // Copied out of the file, where tensors are not aligned: a step's last bits depend on the alignment.
      tensors.set(name, hostTensor(toFloat32(tensor).slice(), tensor.shape));
    }
    const group = (name: string): HostTensors => {
      const own = [...tensors].filter(([key]) => key.startsWith(`${name}/`));
      return Object.fromEntries(own.map(([key, tensor]) => [key.slice(name.length + 1), tensor]));
    };
    const whole = <C extends StoredCheckpoint | null>(checkpoint: C, name: string): C =>
      checkpoint && { ...checkpoint, values: group(name) };
    const reference = group('reference');
    return {
      ...progress,
      adapter: group('adapter'),
      ...(Object.keys(reference).length > 0 && { reference }),
      slots: Object.fromEntries(slots.map((slot) => [slot, group(`slots/${slot}`)])),
      selected: whole(selected, 'selected'),
      stopping: stopping && { ...stopping, best: whole(stopping.best, 'best') },
      ...(sizing && { sizing: { ...sizing, smallest: whole(sizing.smallest, 'smallest') } }),
    };
  } catch (cause) {
    const reason = cause instanceof Error ? cause.message : String(cause);
    throw new CheckpointError(`${path} cannot be resumed: ${reason}`, path, cause);
  }
}

/** Reads the run's data from the header. */
function writtenRun(metadata: Readonly<Record<string, string | undefined>>, path: string): Written {
  const { format, numerics = '0', run } = metadata;
  if (format !== FORMAT || run === undefined) {
    const isOlder = format?.startsWith(FORMAT.slice(0, -1)) ?? false;
    const reason = isOlder
      ? `another version of peftjs wrote it in format ${format}, this one reads ${FORMAT}; start the run again`
      : `expected a file of format ${FORMAT}, got ${format ?? 'none'}`;
    throw new CheckpointError(reason, path);
  }
  if (numerics !== String(NUMERICS)) {
    throw new CheckpointError(`its numerics are ${numerics}, expected ${NUMERICS}`, path);
  }
  return JSON.parse(run, (_, value: Partial<NotFinite> | null) =>
    typeof value?.notFinite === 'string' ? Number(value.notFinite) : value,
  ) as Written;
}

/** A number that JSON lacks: NaN or an infinity. */
interface NotFinite {
  readonly notFinite: string;
}

/** The run's data in the header: slots by name, and checkpoints without their values. */
type Written = Omit<TrainingSnapshot, 'adapter' | 'slots' | 'reference'> & { readonly slots: readonly string[] };
