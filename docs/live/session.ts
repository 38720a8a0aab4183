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

/** Where the page stands. `preparing`: a head is trained on the frozen encoder. */
type Phase = 'idle' | 'loading' | 'preparing' | 'training' | 'finished' | 'stopped' | 'failed';

/** A value at a step of the training. */
export interface Point {
  readonly step: number;
  readonly value: number;
}

/** What the frozen encoder, with a head trained on it, reaches. */
interface FrozenReport {
  readonly scores: Scores;
  /** Parameters of the encoder. */
  readonly baseParameters: number;
}

/** Everything that the page shows of what the worker does. */
export interface LiveSession {
  readonly phase: Phase;
  /** How far loading or preparing is, from 0 to 1. */
  readonly share: number;
  readonly device?: DeviceReport;
  readonly frozen?: FrozenReport;
  readonly progress?: Omit<Progress, 'modules'>;
  readonly modules: readonly ModuleRanks[];
  readonly losses: readonly Point[];
  readonly accuracies: readonly Point[];
  readonly macroF1s: readonly Point[];
  /** Of an adapter that chooses its size: its stages so far, and what it chose. */
  readonly sizes: readonly SizePoint[];
  readonly choice?: SizeChoice;
  readonly prediction?: Prediction;
  /** Why the newest text could not be predicted. */
  readonly unpredictable?: string;
  /** Why the training failed. */
  readonly failure?: string;
}

export const untrained: LiveSession = {
  phase: 'idle',
  share: 0,
  modules: [],
  losses: [],
  accuracies: [],
  macroF1s: [],
  sizes: [],
};

/** A training begins: what is known of the device stays, the rest starts anew. */
export function started({ device }: LiveSession): LiveSession {
  return { ...untrained, phase: 'loading', ...(device && { device }) };
}

/** Whether the worker is busy with a training. */
export function isBusy({ phase }: LiveSession): boolean {
  return phase === 'loading' || phase === 'preparing' || phase === 'training';
}

/** Whether there is an adapter to download. */
export function hasAdapter({ progress }: LiveSession): boolean {
  return progress !== undefined;
}

/** The session after a message of the worker. What it packs goes to the reader and leaves the session as it is. */
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

/** Ranks that are alive, and all of them. */
export function countRanks(modules: readonly ModuleRanks[]): { readonly alive: number; readonly all: number } {
  const sizes = modules.flatMap((module) => module.sizes);
  return { alive: sizes.filter((size) => size > 0).length, all: sizes.length };
}
