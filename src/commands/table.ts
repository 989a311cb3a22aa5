/**
 * Tables that a person reads: columns aligned, one line of head, a rule under it.
 *
 * @module
 */

/** One column. */
export interface Column {
  /** Its head. */
  readonly title: string;
  /** Where its cells stand; "left" unless given. Numbers read best on the right. */
  readonly align?: "left" | "right";
}

/**
 * Lays out a table. Cells are one line each; widths are counted in terminal columns.
 *
 * @returns Lines, each with a newline, without trailing blanks.
 */
export function renderTable(columns: readonly Column[], rows: readonly (readonly string[])[]): string {
  const widths = columns.map(({ title }, i) => Math.max(...[title, ...rows.map((row) => row[i] ?? "")].map(widthOf)));
  const line = (cells: readonly string[]) =>
    columns.map(({ align }, i) => {
      const cell = cells[i] ?? "";
      const blanks = " ".repeat(widths[i]! - widthOf(cell));
      return align === "right" ? blanks + cell : cell + blanks;
    }).join("  ").trimEnd() + "\n";
  return [columns.map(({ title }) => title), widths.map((width) => "─".repeat(width)), ...rows].map(line).join("");
}

const segmenter = new Intl.Segmenter();

/** Terminal columns of a text: two for a wide character or an emoji, one for any other. */
export function widthOf(text: string): number {
  let width = 0;
  for (const { segment } of segmenter.segment(text)) {
    width +=
      /\p{Emoji_Presentation}|\uFE0F|[\u1100-\u115F\u2E80-\u303E\u3041-\uA4CF\uAC00-\uD7A3\uF900-\uFAFF\uFF00-\uFF60]/u
          .test(segment)
        ? 2
        : 1;
  }
  return width;
}
