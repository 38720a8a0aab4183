/**
 * The choice of the next token from its logits z [words].
 *
 *   repetition penalty p   z_t <- z_t / p where z_t > 0, else z_t p, for every token t of the text so far (Keskar et al., 2019)
 *   greedy                 the largest z
 *   temperature T          z <- z / T
 *   top-k                  only the k largest (Fan et al., 2018), and those that are as large as the last of them
 *   top-p                  of these the fewest, the most likely first, whose probabilities softmax(z) reach p (Holtzman et al., 2020)
 *   sampling               a draw from softmax(z) over what is left
 *
 * In this order, which is that of transformers.
 */
import { EngineError, type Rng } from '@peftjs/core/method';

/** How a token is drawn. */
export interface Sampling {
  readonly temperature: number;
  /** 0 for every token. */
  readonly topK: number;
  readonly topP: number;
}

/** A token that may come next. */
export interface Candidate {
  readonly id: number;
  readonly probability: number;
}

/** The scores [words] of a text that may not go on as it began: those of its tokens lowered. */
export function penalised(logits: Float32Array, seen: Iterable<number>, penalty: number): Float32Array {
  if (penalty === 1) return logits;
  const scores = logits.slice();
  for (const id of new Set(seen)) {
    const score = scores[id] as number;
    scores[id] = score > 0 ? score / penalty : score * penalty;
  }
  return scores;
}

/** The id of the largest score, the first of equals. @throws EngineError when it is no finite number, or any is none. */
export function mostLikely(scores: Float32Array): number {
  let best = 0;
  for (let id = 0; id < scores.length; id++) {
    const score = scores[id] as number;
    if (Number.isNaN(score)) throw notFinite(id, score);
    if (score > (scores[best] as number)) best = id;
  }
  if (Number.isFinite(scores[best])) return best;
  throw notFinite(best, scores[best]);
}

function notFinite(id: number, score: number | undefined): EngineError {
  return new EngineError(`the logit of token ${id} is ${score}: did training diverge, or are weights damaged?`);
}

/** What a draw is made from, the most likely first. @throws EngineError when no score is a finite number. */
export function candidates(scores: Float32Array, { temperature, topK, topP }: Sampling): Candidate[] {
  const largest = scores[mostLikely(scores)] as number;
  const least = leastOf(scores, topK);
  const kept: { id: number; weight: number }[] = [];
  for (let id = 0; id < scores.length; id++) {
    const score = scores[id] as number;
    if (score >= least) kept.push({ id, weight: Math.exp((score - largest) / temperature) });
  }
  kept.sort((a, b) => b.weight - a.weight || a.id - b.id);
  const nucleus = kept.slice(0, nucleusSize(kept, topP));
  const total = totalOf(nucleus);
  return nucleus.map(({ id, weight }) => ({ id, probability: weight / total }));
}

/** A token drawn by its probability. */
export function drawn(from: readonly Candidate[], rng: Rng): number {
  let left = rng.uniform();
  for (const { id, probability } of from) {
    left -= probability;
    if (left < 0) return id;
  }
  return (from.at(-1) as Candidate).id;
}

/** The least of the `count` largest scores. */
function leastOf(scores: Float32Array, count: number): number {
  if (count === 0 || count >= scores.length) return -Infinity;
  return scores.slice().sort()[scores.length - count] as number;
}

/** How many of the first it takes to reach a share of the whole; at least one. */
function nucleusSize(kept: readonly { readonly weight: number }[], share: number): number {
  const wanted = share * totalOf(kept);
  let sum = 0;
  let size = 0;
  while (size < kept.length && (size === 0 || sum < wanted)) sum += (kept[size++] as { weight: number }).weight;
  return size;
}

function totalOf(kept: readonly { readonly weight: number }[]): number {
  return kept.reduce((sum, { weight }) => sum + weight, 0);
}
