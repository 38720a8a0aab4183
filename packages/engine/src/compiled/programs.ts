/**
 * A cache of ONNX Runtime sessions. Functions that compute the same share a session, across executors with the same
 * settings. Some sessions without users stay open for the next function that needs them, the most recently released
 * ones.
 */
import { warnOnce } from '@peftjs/core/method';
import { leases, type Leases, type PureFunction } from '@peftjs/core/runtime';
import { axisNames, sizedSpecs, type Sizes, type Specs } from '../axes.js';
import type { RunGraph } from './merge.js';
import { NotDynamic } from './dynamic-graph.js';
import { prepare } from './prepare.js';
import { recomputed } from './recompute.js';
import type { OrtRuntime, OrtSession } from './runtime.js';
import type { Tracing } from './trace.js';

/** A graph and the session that runs it. */
interface Program {
  readonly graph: RunGraph;
  readonly session: OrtSession;
}

/** The number of sessions without users that stay open. */
const MAX_UNUSED = 8;

/** The programs of each ONNX Runtime, by what they compute. */
const ofRuntimes = new WeakMap<OrtRuntime, Leases<string, Promise<Program>>>();

function sessionsOf(runtime: OrtRuntime): Leases<string, Promise<Program>> {
  const release = async (program: Promise<Program>): Promise<void> => (await program).session.release();
  const known = ofRuntimes.get(runtime) ?? leases(MAX_UNUSED, release);
  ofRuntimes.set(runtime, known);
  return known;
}

/** Settings that the programs of one executor share. */
export interface Settings {
  /** The ONNX Runtime that opens the sessions. */
  readonly runtime: OrtRuntime;
  /** The kernels and the byte type of traces. */
  readonly tracing: Tracing;
  /** Identifies the session settings and the constants that the graphs store. */
  readonly key: string;
  /** Whether a session without users stays open. False for sessions that store weights. */
  readonly keepsUnused: boolean;
  /**
   * Whether the backward pass computes values of the forward pass again, or the function that decides it from the bytes
   * that are kept otherwise, at given sizes.
   */
  readonly gradientCheckpointing: boolean | ((keptBytes: (at: Sizes) => number) => boolean);
  /** Turns a traced graph into the one that runs. */
  finish(graph: RunGraph): Promise<RunGraph>;
  /** Opens a session. */
  open(graph: RunGraph): Promise<OrtSession>;
}

/**
 * The programs of a pure function: one for every size of its named axes or, where that is not possible, one per size.
 */
export interface Programs {
  /** Runs `body` with the program for the given sizes, which stays open meanwhile. */
  use<T>(sizes: Sizes, body: (program: Program) => Promise<T>): Promise<T>;
  /** Milliseconds spent on preparing the programs. */
  milliseconds(): number;
  /** Releases all programs. Await running calls first. */
  dispose(): Promise<void>;
}

/**
 * Prepares a function.
 * @throws EngineError when it does something that a graph cannot express, or ONNX Runtime rejects the graph.
 */
export async function programsOf(fn: PureFunction, specs: Specs, settings: Settings): Promise<Programs> {
  const start = performance.now();
  try {
    const { key, program } = await acquired(fn, specs, settings);
    const milliseconds = performance.now() - start;
    return {
      use: (_, body) => body(program),
      milliseconds: () => milliseconds,
      dispose: () => giveUp(key, settings),
    };
  } catch (error) {
    if (!(error instanceof NotDynamic)) throw error;
    const names = axisNames(specs).map((name) => `'${name}'`);
    warnOnce(
      `a compiled function is not one graph for every size of ${names.join(' and ')}: ${error.message}; it is compiled once for each size`,
    );
    return sizedPrograms(fn, specs, settings, performance.now() - start);
  }
}

function giveUp(key: string, { runtime, keepsUnused }: Settings): Promise<void> {
  return sessionsOf(runtime).release(key, keepsUnused);
}

interface Acquired {
  readonly key: string;
  readonly program: Program;
}

async function acquired(fn: PureFunction, specs: Specs, settings: Settings): Promise<Acquired> {
  const { text, graph, keptBytes } = await prepare(settings.tracing, fn, specs);
  const { gradientCheckpointing: chosen } = settings;
  const isRecomputed = typeof chosen === 'function' ? chosen(keptBytes) : chosen;
  const key = `${settings.key} ${isRecomputed ? 'recomputed ' : ''}${text}`;
  const program = await sessionsOf(settings.runtime).acquire(key, async () => {
    const traced = await graph();
    const made = await settings.finish(isRecomputed ? recomputed(traced) : traced);
    return { graph: made, session: await settings.open(made) };
  });
  return { key, program };
}

/** The number of sizes for which a function stays compiled. */
const MAX_SIZES = 16;

/** One program for each size; of those that are not running, the most recently used ones stay. */
function sizedPrograms(fn: PureFunction, specs: Specs, settings: Settings, before: number): Programs {
  let milliseconds = before;
  const ofSizes = leases(MAX_SIZES, async (made: Promise<Acquired>) => giveUp((await made).key, settings));
  const make = async (sizes: Sizes): Promise<Acquired> => {
    const start = performance.now();
    const made = await acquired(fn, sizedSpecs(specs, sizes), settings);
    milliseconds += performance.now() - start;
    return made;
  };
  return {
    async use(sizes, body) {
      const at = JSON.stringify(sizes);
      const { program } = await ofSizes.acquire(at, () => make(sizes));
      try {
        return await body(program);
      } finally {
        await ofSizes.release(at);
      }
    },
    milliseconds: () => milliseconds,
    dispose: () => ofSizes.clear(),
  };
}
