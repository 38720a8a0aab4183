/**
 * A cache of ONNX Runtime sessions. Functions that compute the same share a session, across executors with the same
 * settings. Some sessions without users stay open for the next function that needs them, the most recently released
 * ones.
 */
import { warnOnce } from '@peftjs/core/method';
import type { PureFunction } from '@peftjs/core/runtime';
import { axisNames, sizedSpecs, type Sizes, type Specs } from '../axes.js';
import type { RunGraph } from './merge.js';
import { NotDynamic } from './dynamic-graph.js';
import { prepare } from './prepare.js';
import type { OrtRuntime, OrtSession } from './runtime.js';
import type { Tracing } from './trace.js';

/** A graph and the session that runs it. */
interface Program {
  readonly graph: RunGraph;
  readonly session: OrtSession;
}

/** The number of sessions without users that stay open. */
const MAX_UNUSED = 8;

/** The open sessions of one ONNX Runtime. */
class OpenSessions {
  /** Sessions by key, the most recently released last. */
  readonly #known = new Map<string, { readonly program: Promise<Program>; users: number }>();

  /** Returns the program of a key, and makes it if there is none. Call `release` when done. */
  async acquire(key: string, make: () => Promise<Program>): Promise<Program> {
    const found = this.#known.get(key) ?? { program: make(), users: 0 };
    this.#known.set(key, found);
    found.users++;
    try {
      return await found.program;
    } catch (error) {
      this.#known.delete(key);
      throw error;
    }
  }

  /** Releases a program. @param keep whether its session may stay open for the next user */
  async release(key: string, keep: boolean): Promise<void> {
    const found = this.#known.get(key);
    if (found === undefined) return;
    found.users--;
    this.#known.delete(key);
    if (!keep && found.users === 0) {
      await (await found.program).session.release();
      return;
    }
    this.#known.set(key, found);
    const unused = [...this.#known].filter(([, { users }]) => users === 0);
    const [oldest] = unused;
    if (oldest === undefined || unused.length <= MAX_UNUSED) return;
    this.#known.delete(oldest[0]);
    await (await oldest[1].program).session.release();
  }
}

const ofRuntimes = new WeakMap<OrtRuntime, OpenSessions>();

function sessionsOf(runtime: OrtRuntime): OpenSessions {
  const known = ofRuntimes.get(runtime) ?? new OpenSessions();
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
  /** Turns a traced graph into the one that runs. */
  finish(graph: RunGraph): Promise<RunGraph>;
  /** Opens a session. */
  open(graph: RunGraph): Promise<OrtSession>;
}

/**
 * The programs of a pure function: one for every size of its named axes or, where that is not possible, one per size.
 */
export interface Programs {
  /** Returns the program for the given sizes. Call `done` after the run. */
  of(sizes: Sizes): Promise<{ readonly program: Program; done(): void }>;
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
      of: () => Promise.resolve({ program, done: () => undefined }),
      milliseconds: () => milliseconds,
      dispose: () => giveUp(key, settings),
    };
  } catch (error) {
    if (!(error instanceof NotDynamic)) throw error;
    const names = axisNames(specs).map((name) => `'${name}'`);
    warnOnce(
      `a compiled function is not one graph for every size of ${names.join(' and ')}: ${error.message}; it is compiled once for each size`,
    );
    return new SizedPrograms(fn, specs, settings, performance.now() - start);
  }
}

function giveUp(key: string, { runtime, keepsUnused }: Settings): Promise<void> {
  return sessionsOf(runtime).release(key, keepsUnused);
}

async function acquired(
  fn: PureFunction,
  specs: Specs,
  settings: Settings,
): Promise<{ readonly key: string; readonly program: Program }> {
  const { digest, graph } = await prepare(settings.tracing, fn, specs);
  const key = `${digest} ${settings.key}`;
  const program = await sessionsOf(settings.runtime).acquire(key, async () => {
    const made = await settings.finish(await graph());
    return { graph: made, session: await settings.open(made) };
  });
  return { key, program };
}

/** The number of sizes for which a function stays compiled. */
const MAX_SIZES = 16;

/** One program for each size in use; if there are too many, the least recently used ones are released. */
class SizedPrograms implements Programs {
  readonly #known = new Map<string, { readonly made: ReturnType<typeof acquired>; users: number }>(); // most recently used last
  #milliseconds: number;

  constructor(
    readonly fn: PureFunction,
    readonly specs: Specs,
    readonly settings: Settings,
    milliseconds: number,
  ) {
    this.#milliseconds = milliseconds;
  }

  async of(sizes: Sizes): Promise<{ readonly program: Program; done(): void }> {
    const at = JSON.stringify(sizes);
    const found = this.#known.get(at) ?? { made: this.#make(sizes), users: 0 };
    this.#known.delete(at);
    this.#known.set(at, found);
    found.users++;
    try {
      const { program } = await found.made;
      await this.#giveUpOldest();
      return {
        program,
        done: () => {
          found.users--;
        },
      };
    } catch (error) {
      this.#known.delete(at);
      throw error;
    }
  }

  milliseconds(): number {
    return this.#milliseconds;
  }

  async dispose(): Promise<void> {
    for (const [at, { made }] of [...this.#known]) {
      this.#known.delete(at);
      await giveUp((await made).key, this.settings);
    }
  }

  async #make(sizes: Sizes): ReturnType<typeof acquired> {
    const start = performance.now();
    const made = await acquired(this.fn, sizedSpecs(this.specs, sizes), this.settings);
    this.#milliseconds += performance.now() - start;
    return made;
  }

  async #giveUpOldest(): Promise<void> {
    if (this.#known.size <= MAX_SIZES) return;
    const oldest = [...this.#known].find(([, { users }]) => users === 0);
    if (oldest === undefined) return;
    this.#known.delete(oldest[0]);
    await giveUp((await oldest[1].made).key, this.settings);
  }
}
