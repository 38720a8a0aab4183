import { activeAdapter, hostTensor, withAdapter, type Executor, type PeftModel } from '@peftjs/core';
import { floats, tensorAt, type HostTensors } from '@peftjs/core/method';
import { replaceAdapter } from '@peftjs/core/model';
import { singularFactors } from '@peftjs/core/linalg';
import { measured } from './measured.js';
import type { Ranks } from './allocations.js';
import { logitsOf } from './rows.js';
import type { Task } from './tasks.js';

/*
 * Backward elimination with access to the teacher. Each round
 *
 *   1. rewrites A B = U S V^T in every module as A = U S^(1/2), B = S^(1/2) V^T, because training does not determine
 *      single ranks
 *   2. measures the loss on the teacher's logits without each remaining rank
 *   3. removes the ranks whose removal raises the loss least
 *   4. trains the others further
 */

/** Shares of the surplus ranks that remain after each round. */
const ROUNDS = [0.5, 0.25, 0.1, 0.03, 0];

/** One rank of a module: a column of A [in, r] and a row of B [r, out]. */
interface Rank {
  readonly path: string;
  readonly rank: number;
}

/**
 * Prunes `peft`, a trained LoRA, in place to as many ranks as the teacher has; the other ranks become zeros.
 * @param relearn trains it further
 * @returns the ranks that remain
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

/** Lists the remaining ranks, which `separated` puts first. */
function ranksOf(kept: Ranks): Rank[] {
  return Object.entries(kept).flatMap(([path, count]) => Array.from({ length: count }, (_, rank) => ({ path, rank })));
}

/** Returns the values with a module's A and B replaced by the singular vectors of A B. */
function separated(values: HostTensors, path: string): HostTensors {
  const [A, B] = [`${path}.loraA`, `${path}.loraB`];
  const { loraA, loraB } = singularFactors({ loraA: tensorAt(values, A), loraB: tensorAt(values, B), scaling: 1 });
  return { ...values, [A]: loraA, [B]: loraB };
}

/** Returns the values with one rank set to zero; its A and B then get no gradient from each other. */
function without(values: HostTensors, { path, rank }: Rank): HostTensors {
  const [a, b] = [tensorAt(values, `${path}.loraA`), tensorAt(values, `${path}.loraB`)];
  const [ranks, width] = b.shape as [number, number];
  const loraA = floats(a).map((value, at) => (at % ranks === rank ? 0 : value));
  const loraB = floats(b)
    .slice()
    .fill(0, rank * width, (rank + 1) * width);
  return { ...values, [`${path}.loraA`]: hostTensor(loraA, a.shape), [`${path}.loraB`]: hostTensor(loraB, b.shape) };
}
