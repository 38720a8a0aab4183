/** Rows of tokens for a model that predicts the next one. */
export interface CausalData {
  readonly name: string;
  readonly kind: 'causal-lm';
  readonly rows: readonly CausalRow[];
  /** No row is longer. */
  readonly maxTokens: number;
  /** Rows among these that were longer and were cut. */
  readonly truncated: number;
  /** Rows without a token to learn, which are left out: those cut too early, and a last token of packed texts. */
  readonly leftOut: number;
}

/** The tokens of a row, and at the same places those that are to be predicted: a token, or `ignored`. */
export interface CausalRow {
  readonly ids: Int32Array;
  readonly labels: Int32Array;
  /** Set where it was longer and lost its end. */
  readonly truncated?: true;
}

/** How many rows were cut. */
export function countTruncated(rows: readonly CausalRow[]): number {
  return rows.filter(({ truncated }) => truncated).length;
}

/** The label of a token that is read but not learnt. */
export const ignored = -100;

/** Whether there is a token to predict: the first one of a row has nothing before it. */
export function hasTargets({ labels }: CausalRow): boolean {
  return labels.subarray(1).some((label) => label >= 0);
}
