/** What a stage of a run that chooses its size ended with: plain JSON. */
export interface SizingStage {
  readonly stage: number;
  /** What it is for: without a limit, the same again, a quarter of the one before, between two others, or trained on as the smallest. */
  readonly kind: 'dense' | 'control' | 'descent' | 'search' | 'tuning';
  /** Parameters that it might store; null for no limit. */
  readonly budget: number | null;
  /** Scalars that the adapter needs on disk. */
  readonly storedParameters: number;
  /** The same, averaged over the steps of the stage. */
  readonly meanParameters: number;
  /** Ranks that are alive, by module path. */
  readonly ranks: Readonly<Record<string, number>>;
  /** The primary metric on the selection data. */
  readonly score: number;
  /** The primary metric on `selection.trainSubset`; null without it. */
  readonly trainScore: number | null;
  /** How much worse the score is than that of the dense adapter; below 0 where it is better. */
  readonly worse: number;
  /** How much worse it may be: the standard error of the difference, twice what the control lost where that is more, or the margin. */
  readonly allowed: number;
  /** Whether its adapter may be chosen: it has not lost, and where it only trains another on it scores better than that. */
  readonly held: boolean;
  /** `trainScore` in percent of that of the dense adapter, inverted where less is better; null where there is nothing to compare with. */
  readonly memorization: number | null;
  /** `score`, likewise. */
  readonly generalization: number | null;
}

/** How a run chose the size of its adapter. */
export interface Sizing {
  /** In the order in which they were trained. */
  readonly stages: readonly SizingStage[];
  /** The stage that the adapter ended as. */
  readonly chosen: number;
  /** Why this one, in a sentence. */
  readonly reason: string;
}

/** What the chosen adapter's head does by itself. */
export interface WithoutRanks {
  readonly score: number;
  /** As of a stage. */
  readonly worse: number;
  /** Two standard errors of the difference, or the margin. */
  readonly allowed: number;
}

/** What a reason is told of the run beside its stages. */
interface Circumstances {
  /** The name of the primary metric. */
  readonly metric: string;
  /** What was given; null for one standard error. */
  readonly margin: number | null;
  readonly bare: WithoutRanks;
}

/** Whether nothing was taken away until the end of a stage. */
export function isDense({ kind }: SizingStage): boolean {
  return kind === 'dense' || kind === 'control';
}

/** Why a stage was chosen, in a sentence or two. */
export function reasonOf(
  stages: readonly SizingStage[],
  chosen: number,
  { metric, margin, bare }: Circumstances,
): string {
  const [dense, stage] = [stages[0], stages[chosen]] as [SizingStage, SizingStage];
  const limit = (allowed: number): string =>
    margin === null ? `the error of the difference (${shown(allowed)})` : `the margin of ${shown(margin)}`;
  const denseHas = `the dense adapter's ${shown(dense.score)} with ${count(dense.storedParameters)} parameters`;
  const nothing =
    bare.worse <= bare.allowed
      ? ` Without any rank it is ${shown(bare.score)}, not told apart from the dense adapter's: these rows teach an adapter next to nothing, and the head alone may do as well.`
      : '';
  const below = stages
    .filter(({ held, storedParameters: stored }) => !held && stored < stage.storedParameters)
    .sort((a, b) => b.storedParameters - a.storedParameters)[0];
  if (isDense(stage)) {
    const nearest = below
      ? `: with ${count(below.storedParameters)} parameters ${metric} is ${shown(below.score)}, more than ${limit(below.allowed)} worse`
      : '';
    return `The dense adapter stays: every smaller one loses against ${denseHas}${nearest}.${nothing}`;
  }
  const how =
    stage.worse > 0
      ? `${shown(stage.worse)} worse than ${denseHas}, within ${limit(stage.allowed)}`
      : `no worse than ${denseHas}`;
  const kept = `With ${count(stage.storedParameters)} parameters ${metric} is ${shown(stage.score)}: ${how}.`;
  if (nothing) return `${kept}${nothing}`;
  if (!below) return `${kept} It is the smallest there is.`;
  return `${kept} With ${count(below.storedParameters)} it is ${shown(below.score)}, more than ${limit(below.allowed)} worse.`;
}

function count(parameters: number): string {
  return parameters.toLocaleString('en-US');
}

function shown(value: number): string {
  return String(Number(value.toPrecision(3)));
}
