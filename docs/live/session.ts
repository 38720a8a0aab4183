import type {
  DeviceReport,
  FromWorker,
  ModuleRanks,
  Prediction,
  Progress,
  Scores,
  SizeChoice,
  SizePoint,
} from './messages.js';

/** The state of the page. `preparing`: training a head on the frozen encoder. */
type Phase = 'idle' | 'loading' | 'preparing' | 'training' | 'finished' | 'stopped' | 'failed';

/** A value at a step of the training. */
export interface Point {
  readonly step: number;
  readonly value: number;
}

/** The result of the frozen encoder with a trained head. */
interface FrozenReport {
  readonly scores: Scores;
  /** Parameters of the encoder. */
  readonly baseParameters: number;
}

/** The worker's state that the page shows. */
export interface LiveSession {
  readonly phase: Phase;
  /** The progress of the current phase, from 0 to 1. */
  readonly share: number;
  readonly device?: DeviceReport;
  readonly frozen?: FrozenReport;
  readonly progress?: Omit<Progress, 'modules'>;
  readonly modules: readonly ModuleRanks[];
  readonly losses: readonly Point[];
  readonly accuracies: readonly Point[];
  readonly macroF1s: readonly Point[];
  /** The stages of the search for the adapter's size so far; empty unless the method searches. */
  readonly sizes: readonly SizePoint[];
  readonly choice?: SizeChoice;
  readonly prediction?: Prediction;
  /** Why the newest text could not be predicted. */
  readonly unpredictable?: string;
  /** Why training failed. */
  readonly failure?: string;
}

/** The session before the first training run. */
export const untrained: LiveSession = {
  phase: 'idle',
  share: 0,
  modules: [],
  losses: [],
  accuracies: [],
  macroF1s: [],
  sizes: [],
};

/** Returns the session at the start of a training run: only the device is kept. */
export function started({ device }: LiveSession): LiveSession {
  return { ...untrained, phase: 'loading', ...(device && { device }) };
}

/** Whether the worker is loading or training. */
export function isBusy({ phase }: LiveSession): boolean {
  return phase === 'loading' || phase === 'preparing' || phase === 'training';
}

/** Whether there is an adapter to download. */
export function hasAdapter({ progress }: LiveSession): boolean {
  return progress !== undefined;
}

/** Returns the session after a message from the worker. A packed adapter does not change it. */
export function after(session: LiveSession, message: FromWorker): LiveSession {
  switch (message.kind) {
    case 'loading':
      return { ...session, phase: 'loading', share: message.loadedBytes / message.totalBytes };
    case 'device':
      return { ...session, device: message.device };
    case 'preparing':
      return { ...session, phase: 'preparing', share: message.step / message.totalSteps };
    case 'frozen': {
      const { scores, baseParameters } = message;
      return { ...session, frozen: { scores, baseParameters } };
    }
    case 'progress':
      return advanced(session, message);
    case 'scores': {
      const { step, scores } = message;
      return {
        ...session,
        accuracies: [...session.accuracies, { step, value: scores.accuracy }],
        macroF1s: [...session.macroF1s, { step, value: scores.macroF1 }],
      };
    }
    case 'size': {
      const { kind: _, ...point } = message;
      return { ...session, sizes: [...session.sizes, point] };
    }
    case 'chosen': {
      const { kind: _, ...choice } = message;
      return { ...session, choice };
    }
    case 'ended':
      return { ...session, phase: message.how };
    case 'failed':
      return { ...session, phase: 'failed', failure: message.reason };
    case 'prediction': {
      const { unpredictable: _, ...rest } = session;
      return { ...rest, prediction: message };
    }
    case 'unpredictable': {
      const { prediction: _, ...rest } = session;
      return { ...rest, unpredictable: message.reason };
    }
    case 'adapter':
      return session;
  }
}

function advanced(session: LiveSession, { modules, ...progress }: Progress): LiveSession {
  const { step, totalSteps, loss } = progress;
  const losses = [...session.losses, { step, value: loss }];
  return { ...session, phase: 'training', share: step / totalSteps, progress, modules, losses };
}

/** Returns the number of active ranks and of all ranks. */
export function countRanks(modules: readonly ModuleRanks[]): { readonly alive: number; readonly all: number } {
  const sizes = modules.flatMap((module) => module.sizes);
  return { alive: sizes.filter((size) => size > 0).length, all: sizes.length };
}
