import { activeAdapter, type PeftModel } from '../adapter/peft-model.js';
import type { AdapterLayer, AdapterLayers } from '../contracts/layer.js';
import type { TrainingData } from '../contracts/model.js';
import { describe } from '../config.js';
import { CheckpointError } from '../errors.js';
import type { Named } from '../settings.js';
import type { TrainSettings } from './plan.js';
import type { RunDefinition, TrainingSnapshot } from './snapshot.js';
import { trainedTensors } from './step.js';

/** Returns everything that defines the run of this model with these settings. */
export function runDefinition(
  peft: PeftModel,
  settings: TrainSettings,
  { kind, batchesPerEpoch }: Pick<TrainingData, 'kind' | 'batchesPerEpoch'>,
): RunDefinition {
  const { model, seed } = peft;
  const { method, config, saved } = activeAdapter(peft);
  const { loss, optimizer, schedule, selection, earlyStopping, evaluateEvery } = settings;
  const { epochs, gradientAccumulationSteps, learningRate, learningRates, warmupRatio, finalRatio, clipNorm } =
    settings;
  const { primaryMetric: metric, lowerIsBetter = false } = selection?.data ?? {};
  return asJson({
    ...{ epochs, gradientAccumulationSteps, learningRate, warmupRatio, finalRatio, clipNorm, seed },
    ...within('learningRates', learningRates),
    unclippedGroups: [...settings.unclippedGroups].sort(),
    ...named('loss', loss),
    ...named('optimizer', optimizer),
    ...named('schedule', schedule),
    ...named('method', { name: method.name, settings: config }),
    ...within('model', { fingerprint: model.fingerprint, trainedModules: trainedModules(saved) }),
    ...within('data', { kind, batchesPerEpoch }),
    ...(selection && within('selection', { evaluations: selection.evaluations, metric, lowerIsBetter })),
    ...(selection && selection.margin !== null && within('selection', { margin: selection.margin })),
    ...(earlyStopping && within('earlyStopping', { ...earlyStopping, evaluateEvery })),
  });
}

/** Returns the modules trained in full, including the head unless it is frozen. */
function trainedModules(saved: AdapterLayers): string[] {
  return Object.keys(saved).filter((path) => trainedTensors({ [path]: saved[path] as AdapterLayer }).length > 0);
}

/**
 * Checks that a snapshot's run has the same definition.
 * @throws CheckpointError that names every changed setting with both values, or for a value that is not a snapshot.
 */
export function assertSameRun(snapshot: Partial<TrainingSnapshot>, now: RunDefinition): void {
  const { training: begun } = snapshot;
  if (begun === undefined) {
    const given = snapshot instanceof Uint8Array ? 'bytes: read them by readSnapshot' : describe(snapshot);
    throw new CheckpointError(`resume must be a snapshot, as onSnapshot gets it, got ${given}`, 'resume');
  }
  const changed = [...new Set([...Object.keys(now), ...Object.keys(begun)])].filter((name) =>
    differs(name, begun, now),
  );
  const owners = changed.filter((name) => !changed.some((other) => name.startsWith(`${other}.`)));
  if (owners.length === 0) return;
  const changes = owners.map((name) => `${name} was ${shown(begun[name])} and is now ${shown(now[name])}`);
  throw new CheckpointError(
    `resume: ${changes.join('; ')}. Resume with the original settings, or start again without resume`,
    'resume',
  );
}

function differs(name: string, begun: RunDefinition, now: RunDefinition): boolean {
  return shown(begun[name]) !== shown(now[name]);
}

/** Formats a value as JSON, so that it compares equal after writing and reading. */
function shown(value: unknown): string {
  return value === undefined ? 'not set' : JSON.stringify(value);
}

function named(kind: string, { name, settings = {} }: Pick<Named, 'name'> & { settings?: object }): RunDefinition {
  return { [kind]: name, ...within(kind, settings) };
}

function within(owner: string, fields: object): RunDefinition {
  return Object.fromEntries(Object.entries(fields).map(([name, value]) => [`${owner}.${name}`, value as unknown]));
}

/** Returns the definition as it is read back from a file. */
function asJson(definition: RunDefinition): RunDefinition {
  return JSON.parse(JSON.stringify(definition)) as RunDefinition;
}
