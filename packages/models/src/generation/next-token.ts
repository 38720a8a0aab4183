/**
 * Chooses the next token from its logits z [words].
 *
 *   repetition penalty p   z_t <- z_t / p if z_t > 0, else z_t p, for tokens t of the text so far (Keskar et al., 2019)
 *   no repeated n-grams    z_t <- -inf for tokens t that would repeat n tokens of the text (Paulus et al., 2018)
 *   greedy                 the largest z
 *   temperature T          z <- z / T
 *   top-k                  the k largest, and all equal to the k-th (Fan et al., 2018)
 *   top-p                  the fewest most likely of these whose softmax(z) sum to p or more (Holtzman et al., 2020)
 *   min-p                  those of these that are at least p times as likely as the likeliest (Nguyen et al., 2024)
 *   sampling               a draw from softmax(z) over the remaining tokens
 *
 * The steps have this order, as in transformers.
 */
import { EngineError, type Rng } from '@peftjs/core/method';

/** The settings of a draw. */
export interface Sampling {
  /** T: the logits are divided by it. */
  readonly temperature: number;
  /** k: the number of most likely tokens to draw from; 0 for all. */
  readonly topK: number;
  /** p: the total probability of the tokens to draw from; 1 for all. */
  readonly topP: number;
  /** p: the least probability of the tokens to draw from, as a share of the largest; 0 for all. */
  readonly minP: number;
}

/** A possible next token. */
export interface Candidate {
  /** The token's ID. */
  readonly id: number;
  /** Its probability among all candidates. */
  readonly probability: number;
}

/** Applies the repetition penalty to the scores [words] of the tokens in `seen`. */
export function applyRepetitionPenalty(logits: Float32Array, seen: Iterable<number>, penalty: number): Float32Array {
  if (penalty === 1) return logits;
  const scores = logits.slice();
  for (const id of new Set(seen)) {
    const score = scores[id] as number;
    scores[id] = score > 0 ? score / penalty : score * penalty;
  }
  return scores;
}

/** Bans the tokens that would repeat `size` tokens of `text`: their scores [words] become -Infinity. */
export function withoutRepeats(logits: Float32Array, text: readonly number[], size: number): Float32Array {
  if (size === 0 || text.length < size) return logits;
  const last = text.length - size + 1; // where the n-gram that is being written begins
  const scores = logits.slice();
  for (let start = 0; start < last; start++) {
    let same = 0;
    while (same < size - 1 && text[start + same] === text[last + same]) same++;
    if (same === size - 1) scores[text[start + same] as number] = -Infinity;
  }
  return scores;
}

/**
 * Returns the ID of the largest score, the first if equal.
 * @throws EngineError when it is infinite or any score is NaN.
 */
export function argMax(scores: Float32Array): number {
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

/**
 * Returns the tokens to draw from, most likely first.
 * @throws EngineError when the largest score is infinite or any is NaN.
 */
export function candidates(scores: Float32Array, { temperature, topK, topP, minP }: Sampling): Candidate[] {
  const largest = scores[argMax(scores)] as number;
  const least = leastOf(scores, topK);
  const kept: { id: number; weight: number }[] = [];
  for (let id = 0; id < scores.length; id++) {
    const score = scores[id] as number;
    if (score >= least && score > -Infinity) kept.push({ id, weight: Math.exp((score - largest) / temperature) });
  }
  kept.sort((a, b) => b.weight - a.weight || a.id - b.id);
  // The weight of the likeliest token is 1.
  const nucleus = kept.slice(0, nucleusSize(kept, topP)).filter(({ weight }) => weight >= minP);
  const total = totalOf(nucleus);
  return nucleus.map(({ id, weight }) => ({ id, probability: weight / total }));
}

/** Draws a token by its probability. */
export function sampleToken(from: readonly Candidate[], rng: Rng): number {
  let left = rng.uniform();
  for (const { id, probability } of from) {
    left -= probability;
    if (left < 0) return id;
  }
  return (from.at(-1) as Candidate).id;
}

/** Returns the smallest of the `count` largest scores. */
function leastOf(scores: Float32Array, count: number): number {
  if (count === 0 || count >= scores.length) return -Infinity;
  return scores.slice().sort()[scores.length - count] as number;
}

/** Returns how many of the first candidates reach `share` of the total weight; at least one. */
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
