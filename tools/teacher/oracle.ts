import { activeAdapter, hostTensor, withAdapter, type Executor, type PeftModel } from '@peftjs/core';
import { floats, replaceAdapter, tensorAt, type HostTensors } from '@peftjs/core/method';
import { measured } from './measured.js';
import { logitsOf, type Ranks, type Task } from './tasks.js';

/** Shares of the surplus ranks that are still there after each round. */
const ROUNDS = [0.5, 0.25, 0.1, 0.03, 0];

/** One rank of a module. */
interface Rank {
  readonly path: string;
  readonly rank: number;
}

/**
 * Changes `peft`, a trained LoRA, in place: ranks go, those first without which the teacher's own logits are fitted best, until as
 * many are left as the teacher has. Each round measures the loss without each of the ranks that are left.
 * @returns the ranks that are left
 */
export async function oracleRanks(
  peft: PeftModel,
  task: Task,
  executor: Executor,
  relearn: () => Promise<void>,
): Promise<Ranks> {
  const { layers, values } = activeAdapter(peft);
  const total = Object.values(task.ranks).reduce((sum, rank) => sum + rank, 0);
  let left = Object.keys(layers).flatMap((path) =>
    Array.from({ length: tensorAt(values, `${path}.loraB`).shape[0] as number }, (_, rank) => ({ path, rank })),
  );
  const surplus = left.length - total;
  for (const share of ROUNDS) {
    const kept = total + Math.round(share * surplus);
    const losses: { readonly each: Rank; readonly loss: number }[] = [];
    for (const each of left) losses.push({ each, loss: await lossWithout(peft, each, task, executor) });
    losses.sort((a, b) => b.loss - a.loss);
    left = losses.slice(0, kept).map(({ each }) => each);
    const dropped = losses.slice(kept).map(({ each }) => each);
    replaceAdapter(peft, { values: dropped.reduce(without, activeAdapter(peft).values) });
    await relearn();
  }
  return Object.fromEntries(
    Object.keys(layers).map((path) => [path, left.filter((rank) => rank.path === path).length]),
  );
}

async function lossWithout(peft: PeftModel, rank: Rank, task: Task, executor: Executor): Promise<number> {
  const probe = withAdapter(peft, { values: without(activeAdapter(peft).values, rank) });
  return measured(await logitsOf(probe, task.oracle.ids, executor), task.oracle, task).loss;
}

/** The values with zeros for a column of A [in, r] and a row of B [r, out], which then give each other no gradient. */
function without(values: HostTensors, { path, rank }: Rank): HostTensors {
  const [a, b] = [tensorAt(values, `${path}.loraA`), tensorAt(values, `${path}.loraB`)];
  const [ranks, width] = b.shape as [number, number];
  const loraA = floats(a).map((value, at) => (at % ranks === rank ? 0 : value));
  const loraB = floats(b)
    .slice()
    .fill(0, rank * width, (rank + 1) * width);
  return { ...values, [`${path}.loraA`]: hostTensor(loraA, a.shape), [`${path}.loraB`]: hostTensor(loraB, b.shape) };
}
