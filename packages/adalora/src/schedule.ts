/** The course of AdaLoRA's budget. */
export interface RankSchedule {
  /** b0, held until `tinit`. */
  readonly initialBudget: number;
  /** bT, held from `totalSteps - tfinal` on. */
  readonly targetBudget: number;
  readonly tinit: number;
  readonly tfinal: number;
  readonly totalSteps: number;
}

/**
 * b(t) of AdaLoRA's eq. 14, a cubic fall from b0 at t_i to bT at T - t_f:
 * b(t) = bT + (b0 - bT) (1 - (t - t_i) / (T - t_i - t_f))^3. The numerator printed in the paper, t - t_i - t_f, would start
 * above b0. Not rounded: a controller keeps the whole part.
 */
export function rankBudget(
  step: number,
  { initialBudget, targetBudget, tinit, tfinal, totalSteps }: RankSchedule,
): number {
  if (step <= tinit) return initialBudget;
  if (step >= totalSteps - tfinal) return targetBudget;
  const left = 1 - (step - tinit) / (totalSteps - tinit - tfinal);
  return targetBudget + (initialBudget - targetBudget) * left ** 3;
}
