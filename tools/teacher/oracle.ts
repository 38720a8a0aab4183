import { activeAdapter, hostTensor, withAdapter, type Executor, type PeftModel } from '@peftjs/core';
import { floats, replaceAdapter, singularFactors, tensorAt, type HostTensors } from '@peftjs/core/method';
import { measured } from './measured.js';
import type { Ranks } from './allocations.js';
import { logitsOf } from './rows.js';
import type { Task } from './tasks.js';

/*
 * Backward elimination by someone who sees the teacher. In each round
 *
 *   1. A B = U S V^T in every module becomes A = U S^(1/2), B = S^(1/2) V^T: what one rank is, training leaves open
 *   2. the loss on the teacher's own logits is measured without each of the ranks that are left
 *   3. the ranks go without which it is least
 *   4. the others are trained on
 */

/** Shares of the surplus ranks that are still there after each round. */
const ROUNDS = [0.5, 0.25, 0.1, 0.03, 0];

/** One rank of a module: a column of A [in, r] and a row of B [r, out]. */
interface Rank {
  readonly path: string;
  readonly rank: number;
}

/**
 * Changes `peft`, a trained LoRA, in place: it ends with as many ranks as the teacher has; the others are zeros.
 * @param relearn trains it on
 * @returns the ranks that are left
 */
export async function oracleRanks(
  peft: PeftModel,
  task: Task,
  executor: Executor,
  relearn: () => Promise<void>,
): Promise<Ranks> {
  const total = Object.values(task.ranks).reduce((sum, rank) => sum + rank, 0);
  const { layers, values } = activeAdapter(peft);
  const paths = Object.keys(layers);
  const lossWithout = async (rank: Rank): Promise<number> => {
    const probe = withAdapter(peft, { values: without(activeAdapter(peft).values, rank) });
    return measured(await logitsOf(probe, task.oracle.ids, executor), task.oracle, task).loss;
  };
  let kept: Ranks = Object.fromEntries(
    paths.map((path) => [path, tensorAt(values, `${path}.loraA`).shape[1] as number]),
  );
  const surplus = Object.values(kept).reduce((sum, rank) => sum + rank, 0) - total;
  for (const share of ROUNDS) {
    replaceAdapter(peft, { values: paths.reduce(separated, activeAdapter(peft).values) });
    const losses: { readonly rank: Rank; readonly loss: number }[] = [];
    for (const rank of ranksOf(kept)) losses.push({ rank, loss: await lossWithout(rank) });
    losses.sort((a, b) => b.loss - a.loss);
    const dropped = losses.slice(total + Math.round(share * surplus)).map(({ rank }) => rank);
    replaceAdapter(peft, { values: dropped.reduce(without, activeAdapter(peft).values) });
    kept = Object.fromEntries(
      paths.map((path) => [path, (kept[path] as number) - dropped.filter((rank) => rank.path === path).length]),
    );
    await relearn();
  }
  return kept;
}

/** After `separated` the ranks that are left are the first ones. */
function ranksOf(kept: Ranks): Rank[] {
  return Object.entries(kept).flatMap(([path, count]) => Array.from({ length: count }, (_, rank) => ({ path, rank })));
}

/** The values with the singular vectors of A B in the place of a module's A and B. */
function separated(values: HostTensors, path: string): HostTensors {
  const [A, B] = [`${path}.loraA`, `${path}.loraB`];
  const { loraA, loraB } = singularFactors({ loraA: tensorAt(values, A), loraB: tensorAt(values, B), scaling: 1 });
  return { ...values, [A]: loraA, [B]: loraB };
}

/** The values with zeros for a rank: A and B then give each other no gradient. */
function without(values: HostTensors, { path, rank }: Rank): HostTensors {
  const [a, b] = [tensorAt(values, `${path}.loraA`), tensorAt(values, `${path}.loraB`)];
  const [ranks, width] = b.shape as [number, number];
  const loraA = floats(a).map((value, at) => (at % ranks === rank ? 0 : value));
  const loraB = floats(b)
    .slice()
    .fill(0, rank * width, (rank + 1) * width);
  return { ...values, [`${path}.loraA`]: hostTensor(loraA, a.shape), [`${path}.loraB`]: hostTensor(loraB, b.shape) };
}
