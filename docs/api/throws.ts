import {
  CommentTag,
  Converter,
  ReflectionKind,
  type Application,
  type Comment,
  type CommentDisplayPart,
} from 'typedoc';

type Parts = CommentDisplayPart[];

/** Joins the `@throws` tags of each function into one list, and links peftjs's errors to their pages. */
export function listThrows(app: Application): void {
  app.converter.on(Converter.EVENT_RESOLVE_END, ({ project }) => {
    const errors = new Map(project.getReflectionsByKind(ReflectionKind.Class).map((error) => [error.name, error]));
    const linked = (part: CommentDisplayPart): Parts => {
      if (part.kind !== 'text') return [part];
      return part.text.split(/\b(\w+Error)\b/).map((text): CommentDisplayPart => {
        const target = errors.get(text);
        return target ? { kind: 'inline-tag', tag: '@link', text, target } : { kind: 'text', text };
      });
    };
    for (const { comment } of Object.values(project.reflections)) if (comment) joinThrows(comment, linked);
  });
}

function joinThrows(comment: Comment, linked: (part: CommentDisplayPart) => Parts): void {
  const throwing = comment.getTags('@throws');
  if (throwing.length === 0) return;
  const lead = throwing.length > 1 ? '- ' : '';
  const list = throwing.flatMap(({ content }): Parts => [
    { kind: 'text', text: `\n${lead}` },
    ...content.flatMap(linked),
  ]);
  comment.removeTags('@throws');
  comment.blockTags.push(new CommentTag('@throws', list));
}
