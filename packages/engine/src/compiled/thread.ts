/**
 * ONNX Runtime in a separate thread: sessions run there, and tensors live there. The rest of the engine sees one more
 * ONNX Runtime, whose tensors are handles. A process has one such thread: a run uses all cores that it is given, so two
 * runs at a time would slow each other down.
 *
 * The thread only keeps the process alive while an answer is pending. It ends when its runtime, sessions and tensors
 * are all unreachable. A tensor that was never disposed of is released in the thread when its handle is
 * garbage-collected.
 */
import { ConfigError, EngineError } from '@peftjs/core/method';
import { nodeModule } from '@peftjs/core/model';
import { notInstalled, reasonOf } from './runtime.js';
import type { OrtData, OrtRuntime, OrtSession, OrtTensor } from './runtime.js';

/**
 * Returns the process's thread as an ONNX Runtime. It starts on first use; after it has ended, a new one is made.
 *
 * @throws ConfigError where Node's worker threads are missing.
 */
export function threadRuntime(): OrtRuntime {
  const threads = nodeModule('node:worker_threads') as typeof import('node:worker_threads') | undefined;
  if (threads === undefined) {
    throw new ConfigError(
      "worker: true needs Node's threads; in a page, leave it out and call peftjs in a Web Worker",
      'worker',
    );
  }
  const known = current?.deref();
  if (known?.connection.hasEnded === false) return known;
  const made = new ThreadRuntime(new Connection(threads));
  current = new WeakRef(made);
  return made;
}

let current: WeakRef<ThreadRuntime> | undefined;

class ThreadRuntime implements OrtRuntime {
  readonly Tensor = uploadsTo(this);
  readonly InferenceSession = {
    create: async (model: Uint8Array, options?: object): Promise<OrtSession> => {
      const id = this.connection.newId();
      const opened = (await this.connection.call('open', { id, model, options })) as SessionNames;
      return {
        ...opened,
        run: (feeds) => this.#run(id, opened.outputNames, feeds),
        release: () => {
          this.connection.release(id);
          return Promise.resolve();
        },
      };
    },
  };

  constructor(readonly connection: Connection) {
    unreachableThreads.register(this, connection);
  }

  async #run(session: number, outputNames: readonly string[], feeds: Feeds): Promise<Record<string, OrtTensor>> {
    const given = Object.entries(feeds).map(([name, value]) => [name, this.#idOf(value)] as const);
    const ids = outputNames.map((name) => [name, this.connection.newId()] as const);
    const results = (await this.connection.call('run', { session, given, ids })) as Output[];
    return Object.fromEntries(results.map(({ name, id, type, dims }) => [name, new Handle(this, id, type, dims)]));
  }

  #idOf(value: OrtTensor): number {
    if (value instanceof Handle && value.runtime === this) return value.id;
    throw new EngineError(
      'a value belongs to another executor or to a thread that has ended; download it there and upload it here',
    );
  }
}

type SessionNames = Pick<OrtSession, 'inputNames' | 'outputNames'>;
type Feeds = Parameters<OrtSession['run']>[0];

interface Output extends Pick<OrtTensor, 'type' | 'dims'> {
  readonly name: string;
  readonly id: number;
}

/** A handle to a tensor in the thread. */
class Handle implements OrtTensor {
  location: OrtTensor['location'] = 'cpu';

  constructor(
    readonly runtime: ThreadRuntime,
    readonly id: number,
    readonly type: OrtTensor['type'],
    readonly dims: readonly number[],
  ) {
    unreachableValues.register(this, { connection: runtime.connection, id }, this);
  }

  async getData(): Promise<OrtData> {
    return (await this.runtime.connection.call('download', { id: this.id })) as OrtData;
  }

  dispose(): void {
    if (this.location === 'none') return;
    this.location = 'none';
    unreachableValues.unregister(this);
    this.runtime.connection.release(this.id);
  }
}

/** The Tensor class of the thread's runtime: the data is copied once, and the copy is transferred to the thread. */
function uploadsTo(runtime: ThreadRuntime): OrtRuntime['Tensor'] {
  return class extends Handle {
    constructor(type: OrtTensor['type'], data: OrtData, dims: readonly number[]) {
      const id = runtime.connection.newId();
      super(runtime, id, type, dims);
      const copy = data.slice();
      runtime.connection.send('upload', { id, type, dims, data: copy }, [copy.buffer]);
    }
  };
}

/** Ends a thread whose runtime, sessions and tensors are all unreachable; sessions and tensors hold the runtime. */
const unreachableThreads = new FinalizationRegistry<Connection>((connection) => {
  connection.end();
});

/** Releases tensors whose handles are unreachable. */
const unreachableValues = new FinalizationRegistry<{ readonly connection: Connection; readonly id: number }>(
  ({ connection, id }) => {
    connection.release(id);
  },
);

type Threads = typeof import('node:worker_threads');
type Worker = InstanceType<Threads['Worker']>;

interface Answer {
  readonly call: number;
  readonly result?: unknown;
  /** The error of a call that failed. */
  readonly error?: Error;
}

interface Call {
  resolve(result: unknown): void;
  reject(error: Error): void;
}

/**
 * The connection to the thread: sends commands, receives answers. It must not reference the objects that use it, or
 * they could not be garbage-collected.
 */
class Connection {
  readonly #threads: Threads;
  readonly #calls = new Map<number, Call>();
  #worker: Worker | undefined;
  #lastId = 0;
  /** How the thread ended. */
  #end: string | undefined;

  constructor(threads: Threads) {
    this.#threads = threads;
  }

  get hasEnded(): boolean {
    return this.#end !== undefined;
  }

  /** Returns a new id for a tensor, a session or a call. */
  newId(): number {
    return ++this.#lastId;
  }

  /** Sends a command without waiting for it. @throws EngineError when the thread has ended. */
  send(command: string, given: object, transfer: readonly ArrayBuffer[] = [], call?: number): void {
    if (this.#end !== undefined) throw ended(this.#end);
    this.#worker ??= this.#start();
    this.#worker.postMessage({ command, given, call }, transfer);
  }

  /**
   * Sends a command and returns its result. @throws EngineError when the thread has ended or ends meanwhile; otherwise
   * the command's own error.
   */
  call(command: string, given: object): Promise<unknown> {
    return new Promise((resolve, reject) => {
      const call = this.newId();
      this.send(command, given, [], call);
      this.#calls.set(call, { resolve, reject });
      this.#worker?.ref();
    });
  }

  /** Releases a tensor or a session. */
  release(id: number): void {
    if (!this.hasEnded) this.send('release', { id });
  }

  end(): void {
    if (this.#worker && !this.hasEnded) this.send('end', {});
  }

  #start(): Worker {
    // The flags of this process, e.g. a TypeScript loader, are not passed on: the thread does not need them.
    const workerData = { runtime: pathOfRuntime(), state: new Int32Array(new SharedArrayBuffer(8)) };
    const worker = new this.#threads.Worker(SOURCE, { eval: true, name: 'peftjs', execArgv: [], workerData });
    const waitNoLonger = waitForIdleAtExit(workerData.state);
    worker.on('message', ({ call, result, error }: Answer) => {
      const { resolve, reject } = this.#calls.get(call) as Call;
      this.#calls.delete(call);
      if (this.#calls.size === 0) worker.unref();
      if (error === undefined) resolve(result);
      else reject(error);
    });
    worker.on('error', (error) => {
      this.#ended(reasonOf(error));
    });
    worker.on('exit', (code) => {
      waitNoLonger();
      this.#ended(`with exit code ${code}`);
    });
    worker.unref();
    return worker;
  }

  #ended(how: string): void {
    this.#end ??= how;
    for (const { reject } of this.#calls.values()) reject(ended(this.#end));
    this.#calls.clear();
  }
}

/** The most milliseconds that the exit of the process waits for a run. */
const LONGEST_EXIT = 60_000;

/**
 * Makes the process wait at its exit until the thread is idle: ONNX Runtime aborts the process when its thread is
 * stopped during a run.
 * @param state [whether the thread is busy, whether it must not start another command]
 * @returns a function that ends this
 */
function waitForIdleAtExit(state: Int32Array<SharedArrayBuffer>): () => void {
  const { process } = globalThis;
  const wait = (): void => {
    Atomics.store(state, 1, 1);
    Atomics.wait(state, 0, 1, LONGEST_EXIT);
  };
  process.on('exit', wait);
  return () => process.off('exit', wait);
}

function ended(how: string): EngineError {
  return new EngineError(
    `the thread that runs graphs has ended (${how}), and its values are lost; continue with a new compiled({ worker: true })`,
  );
}

/**
 * The path of ONNX Runtime as this package resolves it: the thread's source is a string, which has no location to
 * resolve from.
 */
function pathOfRuntime(): string {
  try {
    const { createRequire } = nodeModule('node:module') as typeof import('node:module');
    return createRequire(import.meta.url).resolve('onnxruntime-node');
  } catch (cause) {
    throw notInstalled(cause);
  }
}

/**
 * The source of the thread. It is a string rather than a file so that it survives any bundler. Commands run one after
 * another, in the order in which they were sent: a tensor may be released right after sending the run that reads it.
 */
const SOURCE = `
const { parentPort, workerData } = require('node:worker_threads');
const { runtime, state } = workerData;
Atomics.store(state, 0, 1);
const { InferenceSession, Tensor } = require(runtime);
const held = new Map(); // values and sessions by their ids

const commands = {
  upload({ id, type, data, dims }) {
    held.set(id, new Tensor(type, data, dims));
  },
  async download({ id }) {
    return (await held.get(id).getData()).slice();
  },
  async open({ id, model, options }) {
    const session = await InferenceSession.create(model, options);
    held.set(id, session);
    return { inputNames: session.inputNames, outputNames: session.outputNames };
  },
  async run({ session, given, ids }) {
    const feeds = Object.fromEntries(given.map(([name, id]) => [name, held.get(id)]));
    const results = await held.get(session).run(feeds);
    return ids.map(([name, id]) => {
      const { type, dims } = results[name];
      held.set(id, results[name]);
      return { name, id, type, dims };
    });
  },
  async release({ id }) {
    const given = held.get(id);
    held.delete(id);
    await (given instanceof Tensor ? given.dispose() : given.release());
  },
  end() {
    parentPort.close();
  },
};

function rest() {
  Atomics.store(state, 0, 0);
  Atomics.notify(state, 0);
}

async function answer({ command, given, call }) {
  Atomics.store(state, 0, 1);
  if (Atomics.load(state, 1) === 1) return rest(); // the process exits
  try {
    const result = await commands[command](given);
    if (call === undefined) return;
    parentPort.postMessage({ call, result }, ArrayBuffer.isView(result) ? [result.buffer] : []);
  } catch (error) {
    if (call === undefined) throw error;
    parentPort.postMessage({ call, error });
  } finally {
    rest();
  }
}

rest();
let last = Promise.resolve();
parentPort.on('message', (message) => {
  last = last.then(() => answer(message));
});
`;
