import { parseOptions, positive, ShapeError } from '@peftjs/core/method';
import type { EvaluationData } from '@peftjs/core';
import { assertArgument } from '@peftjs/core/model';
import * as v from 'valibot';
import { batchEntries, batchesByLength, type BatchOptions, encodedRows } from './batches.js';
import type { PreferenceData } from './encode-language.js';
import type { LabelledEvaluation } from './evaluation.js';
import { mean } from './metrics/values.js';

/** Options of {@link preferenceEvaluation}. */
export interface PreferenceEvaluationOptions extends BatchOptions {
  /** The factor of the rewards: the beta of the loss. Default 0.1. */
  readonly beta?: number | undefined;
}

/**
 * Creates the batches of preferences, in a fixed order, with TRL's metrics:
 *
 * - `rewardAccuracy`, which selects the checkpoint: the share of rows whose chosen answer has the larger reward
 * - `rewardMargin`: how much larger, on average; `rewardChosen` and `rewardRejected`: the mean rewards
 * - `logpsChosen`, `logpsRejected`: log p of an answer, summed over its tokens; the mean over rows
 * - `perplexity` of the chosen answers
 *
 * An answer's reward is beta times its log p per token, as in ORPO. With a reference (`withReference`, or training with
 * `dpo`) it is beta times log(p / p_reference), as in DPO.
 * @throws ConfigError for an impossible option.
 */
export function preferenceEvaluation(data: PreferenceData, options: PreferenceEvaluationOptions): LabelledEvaluation {
  assertArgument('data', data, encodedRows);
  const { beta } = parseOptions('preferenceEvaluation', { ...batchEntries, beta: v.optional(positive, 0.1) }, options);
  const { batchSize, padId } = options;
  const batches = batchesByLength(data.rows.keys(), data, { batchSize, padId });
  const answersOf = (outputs: readonly Float32Array[]): Answers[] => {
    const odd = outputs.find((output) => output.length !== 4);
    if (odd || outputs.length !== data.rows.length) {
      const got = odd ? `${odd.length} numbers for a row` : `${outputs.length} rows`;
      throw new ShapeError(
        `${data.name}: expected four numbers for each of ${data.rows.length} rows, of evaluationOutputs, got ${got}`,
      );
    }
    return outputs.map(([chosen = NaN, chosenTokens = 0, rejected = NaN, rejectedTokens = 0]) => ({
      chosen: { logp: -chosen, tokens: chosenTokens },
      rejected: { logp: -rejected, tokens: rejectedTokens },
    }));
  };
  const judged = (reference?: readonly Answers[]): LabelledEvaluation => {
    const rewardsOf = (answers: readonly Answers[]) => rewards(answers, beta, reference);
    return {
      batches,
      takesSurprise: true,
      primaryMetric: 'rewardAccuracy',
      ...(!reference && { withReference: (outputs) => judged(answersOf(outputs)) }),
      ...scores(answersOf, rewardsOf),
    };
  };
  return judged();
}

/** log p of an answer given its prompt, and the number of its tokens. */
interface Answer {
  readonly logp: number;
  readonly tokens: number;
}

/** A value of both answers of a row. */
type Answers<T = Answer> = Readonly<Record<'chosen' | 'rejected', T>>;

function rewards(answers: readonly Answers[], beta: number, reference?: readonly Answers[]): Answers<number>[] {
  return answers.map((row, number) => {
    const known = reference?.[number];
    const of = (name: 'chosen' | 'rejected'): number =>
      beta * (known ? row[name].logp - known[name].logp : row[name].logp / row[name].tokens);
    return { chosen: of('chosen'), rejected: of('rejected') };
  });
}

/** The ways to score the outputs of all rows. */
function scores(
  answersOf: (outputs: readonly Float32Array[]) => Answers[],
  rewardsOf: (answers: readonly Answers[]) => Answers<number>[],
): Required<Pick<EvaluationData, 'score' | 'predictions' | 'scoreRows'>> {
  const isRight = ({ chosen, rejected }: Answers<number>): number => Number(chosen > rejected);
  return {
    score(outputs) {
      const answers = answersOf(outputs);
      const found = rewardsOf(answers);
      const total = (of: (answer: Answers) => number): number => answers.reduce((sum, row) => sum + of(row), 0);
      return {
        rewardAccuracy: mean(found.map(isRight)),
        rewardMargin: mean(found.map(({ chosen, rejected }) => chosen - rejected)),
        rewardChosen: mean(found.map(({ chosen }) => chosen)),
        rewardRejected: mean(found.map(({ rejected }) => rejected)),
        logpsChosen: mean(answers.map(({ chosen }) => chosen.logp)),
        logpsRejected: mean(answers.map(({ rejected }) => rejected.logp)),
        perplexity: Math.exp(-total(({ chosen }) => chosen.logp) / total(({ chosen }) => chosen.tokens)),
      };
    },
    predictions(outputs) {
      const predicted = rewardsOf(answersOf(outputs)).map(isRight);
      return { predicted, actual: predicted.map(() => 1) };
    },
    scoreRows: ({ predicted }, rows) => ({ rewardAccuracy: mean(rows.map((row) => predicted[row] as number)) }),
  };
}
