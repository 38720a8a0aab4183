import { mkdtemp, readdir, readFile, rm, stat } from 'node:fs/promises';
import { availableParallelism, cpus, tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import * as ort from 'onnxruntime-node';
import { compiled, type OrtRuntime } from '@peftjs/engine';
import { fromPretrained, type WeightDtype } from '@peftjs/models';
import { onModel, type Method } from './cases.js';
import { writeRandomModel } from './checkpoint.js';
import { onnxRuntime, timeSteps } from './measure.js';
import { models, type RandomModelName } from './models.js';

/*
 * npx tsx --conditions @peftjs/source tools/perf/profile.ts [--shape minilm] [--batch 16x64] [--method lora] [--dtype fp32] [--steps 20] [--json]
 *
 * Shows where a compiled step spends its time, by kind of work and by operator, from ONNX Runtime's profile of every
 * node. The first steps are left out.
 */

const { values: flags } = parseArgs({
  options: {
    shape: { type: 'string', default: 'minilm' },
    batch: { type: 'string', default: '16x64' },
    method: { type: 'string', default: 'lora' },
    dtype: { type: 'string', default: 'fp32' },
    steps: { type: 'string', default: '20' },
    threads: { type: 'string', default: String(availableParallelism()) },
    json: { type: 'boolean', default: false },
  },
});
/** Steps until memory and threads settle. */
const WARM_UP = 3;
/** Adapters here have 8 ranks and heads 2 classes; nothing else is this narrow. */
const NARROW = 16;
const steps = Number(flags.steps);

const folder = await mkdtemp(join(tmpdir(), 'peftjs-profile-'));
try {
  const model = join(folder, 'model');
  const { config, task } = models[flags.shape as RandomModelName];
  await writeRandomModel(model, config, task);
  const dtype = flags.dtype as WeightDtype;
  const peft = onModel[flags.method as Method](await fromPretrained(model, { task, dtype }));
  const { runtime, end } = profiled(join(folder, 'profile'));
  const executor = compiled({
    threads: Number(flags.threads),
    runtime,
    executionProviders: ['cpu'],
  });
  const [rows = 16, tokens = 64] = flags.batch.split('x').map(Number);
  await timeSteps({ batch: [rows, tokens], steps: steps + WARM_UP, learningRate: 1e-3 }, peft, executor);
  end();
  print(sharesOf(await largestProfile()));
} finally {
  await rm(folder, { recursive: true });
}

/**
 * Returns ONNX Runtime with sessions that write profiles, which are complete after a session is released or after
 * `end`.
 */
function profiled(profileFilePrefix: string): { runtime: OrtRuntime; end(): void } {
  const open = new Set<ort.InferenceSession>();
  const runtime = onnxRuntime(async (model, options) => {
    const session = await ort.InferenceSession.create(model, { ...options, enableProfiling: true, profileFilePrefix });
    const release = session.release.bind(session);
    open.add(session);
    session.release = () => {
      open.delete(session);
      session.endProfiling();
      return release();
    };
    return session;
  });
  return { runtime, end: () => open.forEach((session) => session.endProfiling()) };
}

/** One run of a node, as ONNX Runtime writes it. */
interface NodeEvent {
  readonly name: string;
  /** Duration in microseconds. */
  readonly dur: number;
  /** Absent in events of the session itself. */
  readonly args?: {
    readonly op_name?: string;
    /** One record per tensor: its type and its shape. */
    readonly input_type_shape?: readonly Readonly<Record<string, readonly number[]>>[];
  };
}

/** Returns the events of the step, which has the longest profile; the others are of lookups outside it. */
async function largestProfile(): Promise<NodeEvent[]> {
  const names = (await readdir(folder)).filter((name) => name.startsWith('profile'));
  const sizes = await Promise.all(names.map(async (name) => (await stat(join(folder, name))).size));
  const name = names[sizes.indexOf(Math.max(...sizes))] ?? '';
  const events = JSON.parse(await readFile(join(folder, name), 'utf8')) as NodeEvent[];
  return events.filter((event) => event.args?.op_name !== undefined && event.name.endsWith('_kernel_time'));
}

/** The output of `--json`. */
export interface Profile {
  /** The model of the processor. */
  readonly cpu: string;
  /** The name of the model. */
  readonly shape: string;
  /** Rows x tokens. */
  readonly batch: string;
  /** The method. */
  readonly method: string;
  /** The precision of the frozen weights. */
  readonly dtype: string;
  /** Number of threads. */
  readonly threads: string;
  /** The share of each operator, largest first. */
  readonly shares: readonly Share[];
}

/** The mean time that a step spends on one operator. */
export interface Share {
  /** The kind of work. */
  readonly kind: Kind;
  /** The operator of ONNX. */
  readonly operator: string;
  /** Mean milliseconds in a step. */
  readonly milliseconds: number;
  /** Share of the step's time, 0 to 1. */
  readonly share: number;
}

/** Returns the mean time of a step by kind of work and operator, largest first. Every node runs once a step. */
function sharesOf(events: readonly NodeEvent[]): Share[] {
  const seen = new Map<string, number>();
  const sums = new Map<string, number>();
  let total = 0;
  for (const event of events) {
    const run = (seen.get(event.name) ?? 0) + 1;
    seen.set(event.name, run);
    if (run <= WARM_UP + 1) continue;
    const key = `${kindOf(event)}\t${event.args?.op_name}`;
    sums.set(key, (sums.get(key) ?? 0) + event.dur);
    total += event.dur;
  }
  return [...sums]
    .map(([key, sum]) => {
      const [kind, operator] = key.split('\t') as [Kind, string];
      return { kind, operator, milliseconds: sum / steps / 1000, share: sum / total };
    })
    .sort((a, b) => b.share - a.share);
}

/**
 * The kind of work: products of the frozen network, of attention, or of trained modules, or anything but a matrix
 * product.
 */
export type Kind = 'frozen products' | 'attention' | 'adapters and head' | 'no product';

function kindOf({ args }: NodeEvent): Kind {
  const { op_name: operator = '', input_type_shape: inputs = [] } = args ?? {};
  if (!/MatMul|Gemm/.test(operator)) return 'no product';
  const [a = [], b = []] = inputs.map((input) => Object.values(input)[0] ?? []);
  if (b.length > 2) return 'attention';
  return Math.min(...a, ...b) <= NARROW ? 'adapters and head' : 'frozen products';
}

function print(shares: readonly Share[]): void {
  const { shape, batch, method, dtype, threads } = flags;
  const profile: Profile = { cpu: cpus()[0]?.model ?? 'unknown', shape, batch, method, dtype, threads, shares };
  if (flags.json) {
    console.log(JSON.stringify(profile));
    return;
  }
  const kinds = [...new Set(shares.map(({ kind }) => kind))];
  for (const kind of kinds) {
    const own = shares.filter((each) => each.kind === kind);
    console.log(line(kind, sumOf(own, 'milliseconds'), sumOf(own, 'share')));
    for (const { operator, milliseconds, share } of own) {
      if (share >= 0.003) console.log(line(`  ${operator}`, milliseconds, share));
    }
  }
}

function sumOf(shares: readonly Share[], field: 'milliseconds' | 'share'): number {
  return shares.reduce((sum, share) => sum + share[field], 0);
}

function line(what: string, milliseconds: number, share: number): string {
  return `${what.padEnd(32)} ${milliseconds.toFixed(1).padStart(8)} ms ${(100 * share).toFixed(1).padStart(5)} %`;
}
