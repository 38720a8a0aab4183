import {
  predict,
  withAdapter,
  type EvaluationData,
  type Executor,
  type InputBatch,
  type PeftModel,
} from '@peftjs/core';
import type { HostTensors } from '@peftjs/core/method';
import type { Scores } from '../messages.js';

/** A model whose adapter changes during training; it is compiled once for all predictions. */
export interface Learner {
  /** The model with the newest values. */
  readonly peft: PeftModel;
  /** Replaces the adapter's values. */
  learn(values: HostTensors): void;
  /** Evaluates the model. */
  scores(data: EvaluationData): Promise<Scores>;
  /** Returns the probability of each class for the single row of a batch. */
  probabilities(question: InputBatch): Promise<number[]>;
}

export function openLearner(start: PeftModel, executor: Executor): Learner {
  let peft = start;
  const outputs = (batches: readonly InputBatch[]): Promise<Float32Array[]> => predict(peft, batches, { executor });
  return {
    get peft() {
      return peft;
    },
    learn(values) {
      peft = withAdapter(peft, { values });
    },
    async scores(data) {
      const { accuracy = 0, macroF1 = 0 } = data.score(await outputs(data.batches));
      return { accuracy, macroF1 };
    },
    async probabilities(question) {
      const [logits = new Float32Array()] = await outputs([question]);
      return softmax(logits);
    },
  };
}

function softmax(logits: Float32Array): number[] {
  const most = Math.max(...logits);
  const weights = Array.from(logits, (logit) => Math.exp(logit - most));
  const sum = weights.reduce((total, weight) => total + weight, 0);
  return weights.map((weight) => weight / sum);
}
